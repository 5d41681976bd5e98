import json, time

def log_usage(message, session=None, log=open("claude.jsonl", "a", buffering=1)):
    kept = message.model_dump(mode="json", include={"id", "model", "stop_reason", "usage", "diagnostics"})
    log.write(json.dumps({"time": time.time(), "session": session, **kept}) + "\n")
