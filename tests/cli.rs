//! The command line as people see it: one file in `tests/cmd` is one behaviour, and so is each block of the README and the guides.

#[test]
fn the_command_line_does_what_its_cases_and_the_documents_show() {
    trycmd::TestCases::new()
        .env("TZ", "UTC")
        .env("HOME", "/nonexistent")
        .case("tests/cmd/*.trycmd")
        .case("tests/cmd/*.toml")
        .case("README.md")
        .case("docs/*.md");
}
