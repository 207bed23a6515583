//! Root that is given up once everything is bound: who the process is afterwards, and what it can still do.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Process, Ringway, client, free_address, skip};

use crate::support::{Engine, NO_CHECKS, PROGRAM, app, app_of, ringway, status};

on_both_engines!(root_is_given_up_by_all_threads_once_low_ports_are_bound);

/// `nobody` of Debian.
const USER: &str = "nobody";
const UID: u32 = 65_534;

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("there is procfs").uid() == 0
}

fn echoes(address: SocketAddr) {
    let mut stream = client::connect(address).expect("it listens");
    stream.write_all(b"hello").expect("it is read");
    stream.read_exact(&mut [0; 5]).expect("it is echoed");
}

/// What every thread of the process has in this line of its status.
fn of_all_threads(ringway: &Ringway, name: &str) -> Vec<String> {
    let tasks = format!("/proc/{}/task", ringway.process().id());
    let values = fs::read_dir(tasks).expect("it runs").map(|task| {
        let path = task.expect("it runs").path().join("status");
        let text = fs::read_to_string(path).expect("its threads stay");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel has it");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    let mut values: Vec<String> = values.collect();
    assert!(values.len() > 3, "workers, logs and the control plane");
    values.dedup();
    values
}

fn root_is_given_up_by_all_threads_once_low_ports_are_bound(engine: Engine) {
    if !is_root() {
        skip!("only root can become another user");
    }
    let backend = Backend::start(Behaviour::Echo);
    // An address of loopback that nobody else uses.
    let [.., high, low] = std::process::id().to_be_bytes();
    let at = |port| SocketAddr::from(([127, if engine == Engine::Epoll { 78 } else { 79 }, high, low], port));
    let backends = format!("\"{}\"", backend.address());
    let more = free_address();
    let server = format!("[server]\nuser = \"{USER}\"\ngroup = \"nogroup\"\n");
    let config = |frontends: &str| format!("{server}{}", app_of(frontends, &backends, NO_CHECKS));
    let first = format!("\"{}\"", at(443));
    let mut ringway = ringway(engine).config(&config(&first)).start();
    ringway.process().wait_for_line("that root is given up", PATIENCE, |line| {
        line.contains("root is given up") && line.contains("user=\"nobody\"")
    });

    let four = [UID.to_string().as_str(); 4].join(" ");
    assert_eq!(of_all_threads(&ringway, "Uid:"), [four.as_str()]);
    assert_eq!(of_all_threads(&ringway, "Gid:"), [four.as_str()]);
    assert_eq!(of_all_threads(&ringway, "Groups:"), [UID.to_string()]);
    assert_eq!(of_all_threads(&ringway, "CapEff:"), ["0000000000000000"]);
    assert_eq!(of_all_threads(&ringway, "CapPrm:"), ["0000000000000000"]);
    let procfs = format!("/proc/{}/fd", ringway.process().id());
    assert_eq!(fs::metadata(procfs).expect("it runs").uid(), UID, "it may look at itself");
    assert_eq!(status(&ringway)["apps"][0]["frontends"][0]["workers"], 2);
    for _ in 0..20 {
        echoes(at(443));
    }

    let text = format!(
        "[admin]\nlisten = \"{}\"\n\n{}",
        ringway.admin_address(),
        config(&format!("{first}, \"{more}\", \"{}\"", at(80)))
    );
    let answer = ringway.admin_put("/config", "application/toml", &text);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("CAP_NET_BIND_SERVICE"), "{}", answer.body);
    assert!(client::connect(at(80)).is_err());
    echoes(more);
    echoes(at(443));

    ringway.terminate();
    assert!(ringway.wait(PATIENCE).success());
}

#[test]
fn user_that_cannot_be_become_keeps_the_process_from_starting_and_is_said() {
    if !is_root() {
        skip!("only root can start a process of another user");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let file = directory.path().join("ringway.toml");
    for (user, runs_as, expected) in [
        ("no-such-user", 0, "server.user: there is no user \"no-such-user\""),
        ("daemon", UID, "only root can become another user"),
    ] {
        let app = app(free_address(), &[free_address()], NO_CHECKS);
        fs::write(&file, format!("[server]\nuser = \"{user}\"\n{app}")).expect("it can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
        let mut command = Command::new(std::env::var_os("RINGWAY_BIN").unwrap_or_else(|| PROGRAM.into()));
        command.args(["run", "--config"]).arg(&file).current_dir("/").env("NO_COLOR", "1");
        if runs_as != 0 {
            command.uid(runs_as).gid(runs_as);
        }
        let mut process = match Process::spawn(command) {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                skip!("another user may not run the program where it lies");
            }
            Err(error) => panic!("it starts: {error}"),
        };
        process.wait_for_line(expected, PATIENCE, |line| line.contains(expected));
        assert!(!process.wait(PATIENCE).success());
    }
}
