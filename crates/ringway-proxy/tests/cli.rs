//! What the program answers when it does not start to serve: exit codes and what they come with.
#![forbid(unsafe_code)]

use std::process::{Command, Output};

fn ringway(arguments: &[&str]) -> Output {
    // A directory without a configuration.
    let directory = std::env::temp_dir().join(format!("ringway-cli-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_ringway")).args(arguments).current_dir(directory).output();
    output.expect("it runs")
}

fn complaint(arguments: &[&str], code: i32) -> String {
    let output = ringway(arguments);
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    text
}

#[test]
fn wrong_usage_ends_with_code_2_and_a_reason() {
    for (arguments, part) in [
        (&["--log-level", "loud"][..], "0 to 7"),
        (&["run", "--workers", "0"], "--workers"),
        (&["run", "--engine", "kqueue"], "io_uring"),
        (&["launch"], "launch"),
        (&["run", "--config", "nowhere.toml"], "nowhere.toml"),
        (&["check"], "neither ringway.toml nor config.json"),
        (&["status", "--admin", "somewhere"], "127.0.0.1:9900"),
        (&["--pprof", "somewhere"], "127.0.0.1:6060"),
    ] {
        let text = complaint(arguments, 2);
        assert!(text.contains(part), "no {part} in: {text}");
    }
}

#[test]
fn status_of_a_process_that_is_not_there_ends_with_code_1() {
    let address = testkit::free_address().to_string();
    let text = complaint(&["status", "--admin", &address], 1);
    assert!(text.contains("no ringway answers") && text.contains(&address), "{text}");
    let text = complaint(&["status", "--admin", "unix:nowhere.sock"], 1);
    assert!(text.contains("unix:nowhere.sock"), "{text}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in [&["--help"][..], &["run", "--help"], &["help"], &["--version"]] {
        let output = ringway(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("ringway"), "{arguments:?}");
    }
}

#[test]
fn schema_completions_and_man_pages_are_printed() {
    for (arguments, part) in [
        (&["schema"][..], "https://json-schema.org/draft/2020-12/schema"),
        (&["completions", "bash"], "--log-level"),
        (&["completions", "zsh"], "#compdef ringway"),
        (&["man"], ".TH ringway 1"),
        (&["man", "run"], "\\-\\-workers"),
    ] {
        let output = ringway(arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text.contains(part), "{arguments:?} prints no {part}:\n{text}");
    }
    assert!(complaint(&["man", "nothing"], 2).contains("no command `nothing`"));
}

#[test]
fn bench_measures_backends_of_its_own_where_no_target_is_named() {
    let arguments =
        ["bench", "pingpong", "--backend", "127.0.0.1:0", "--warmup", "0.01", "--seconds", "0.05"];
    let output = ringway(&arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("pingpong: 64 connections") && text.contains("p99"), "{text}");
    assert!(complaint(&["bench", "pingpong"], 2).contains("--target"));
}

#[test]
fn selftest_prints_every_case_and_what_came_of_it() {
    let output = ringway(&["selftest"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in
        ["a forged length of 16 MiB", "TLS 1.3 with a post-quantum key share", " cases passed, 0 failed"]
    {
        assert!(text.contains(part), "no {part} in: {text}");
    }
}
