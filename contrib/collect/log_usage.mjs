import { appendFileSync } from "node:fs";

export function logUsage({ id, model, stop_reason, usage, diagnostics }, session = undefined) {
  const line = { time: new Date(), id, model, stop_reason, session, usage, diagnostics };
  appendFileSync("claude.jsonl", JSON.stringify(line) + "\n");
}
