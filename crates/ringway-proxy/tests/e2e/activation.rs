//! Sockets that a service manager holds and passes: the tests hold them in its place.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, client, eventually, free_address, listener_for_several};

use crate::support::{Engine, NO_CHECKS, app, app_of, ringway, status};

on_both_engines!(
    passed_socket_is_served_and_its_queue_outlives_the_process,
    workers_bind_beside_a_passed_socket_that_allows_it_and_share_another,
    passed_unix_socket_serves_the_app_of_its_name_and_its_file_stays,
    admin_interface_listens_at_the_socket_that_was_passed_for_it,
    what_is_passed_and_not_used_is_said,
    frontend_that_a_reload_removes_and_brings_back_has_its_socket_again,
    supervisor_leaves_passed_sockets_to_each_server_that_it_starts,
);

fn echoes(mut stream: impl Read + Write) {
    stream.write_all(b"hello").expect("it is read");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("it is echoed");
    assert_eq!(&answer, b"hello");
}

fn held() -> (TcpListener, SocketAddr) {
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = held.local_addr().expect("it is bound");
    (held, address)
}

/// Listening sockets of this machine at a port of IPv4.
fn sockets_at(address: SocketAddr) -> usize {
    let wanted = format!(":{:04X} 00000000:0000 0A", address.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("there is procfs");
    table.lines().filter(|line| line.contains(&wanted)).count()
}

fn is_said(ringway: &Ringway, words: [&str; 2]) {
    ringway
        .process()
        .wait_for_line(words[0], PATIENCE, |line| words.into_iter().all(|word| line.contains(word)));
}

fn passed_socket_is_served_and_its_queue_outlives_the_process(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (held, address) = held();
    let config = app(address, &[backend.address()], NO_CHECKS);
    let start = || {
        let handle = held.try_clone().expect("a handle");
        ringway(engine).config(&config).passed("ringway.socket", handle).start()
    };
    let mut first = start();
    is_said(&first, ["socket was passed", "serves=\"app\""]);
    for _ in 0..20 {
        echoes(client::connect(address).expect("it listens"));
    }
    assert_eq!(first.metric("ringway_connections_accepted_total", ""), 20.0);
    first.terminate();
    assert!(first.wait(PATIENCE).success());

    // Nobody serves it now: it waits.
    let waiting = client::connect(address).expect("whoever holds the socket listens");
    let _second = start();
    echoes(waiting);
    echoes(client::connect(address).expect("it listens"));
}

fn workers_bind_beside_a_passed_socket_that_allows_it_and_share_another(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let several = listener_for_several();
    let (alone, alone_address) = held();
    let several_address = several.local_addr().expect("it is bound");
    let frontends = format!("\"{several_address}\", \"{alone_address}\"");
    let ringway = ringway(engine)
        .config(&app_of(&frontends, &format!("\"{}\"", backend.address()), NO_CHECKS))
        .passed("unknown", several)
        .passed("unknown", alone)
        .start();
    let status = status(&ringway);
    for frontend in status["apps"][0]["frontends"].as_array().expect("a list") {
        assert_eq!(frontend["workers"], 2, "{frontend}");
    }
    assert_eq!(sockets_at(several_address), 2, "the passed one, and that of the other worker");
    assert_eq!(sockets_at(alone_address), 1, "all workers accept from one");
    for address in [several_address, alone_address] {
        for _ in 0..20 {
            echoes(client::connect(address).expect("it listens"));
        }
    }
}

fn passed_unix_socket_serves_the_app_of_its_name_and_its_file_stays(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("held.sock");
    let held = UnixListener::bind(&path).expect("a path");
    let backends = format!("\"{}\"", backend.address());
    let mut ringway = ringway(engine)
        .config(&app_of("\"unix:configured.sock\"", &backends, NO_CHECKS))
        .passed("app", held.try_clone().expect("a handle"))
        .start();
    for _ in 0..4 {
        let stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        echoes(stream);
    }
    assert_eq!(
        status(&ringway)["apps"][0]["frontends"][0]["address"],
        format!("unix:{}", path.display()),
        "where it is bound"
    );
    assert!(!ringway.directory().join("configured.sock").exists());
    ringway.terminate();
    assert!(ringway.wait(PATIENCE).success());
    let _waits = UnixStream::connect(&path).expect("the holder has it still");
}

fn admin_interface_listens_at_the_socket_that_was_passed_for_it(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (frontend, frontend_address) = held();
    let (admin, admin_address) = held();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("open.sock");
    let open = UnixListener::bind(&path).expect("a path");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("it is ours");

    let app = app(frontend_address, &[backend.address()], NO_CHECKS);
    let by_address = ringway(engine)
        .config_file("ringway.toml", &format!("[admin]\nlisten = \"{admin_address}\"\n{app}"))
        .passed("unknown", admin.try_clone().expect("a handle"))
        .passed("unknown", frontend.try_clone().expect("a handle"))
        .start();
    let page = testkit::http::get(admin_address, "/healthz").expect("it answers");
    assert_eq!(page.body, "ok\n");
    drop(by_address);

    let by_name = ringway(engine)
        .config_file("ringway.toml", &format!("[admin]\nlisten = \"unix:mine.sock\"\n{app}"))
        .passed("admin", open)
        .passed("unknown", frontend)
        .start();
    is_said(&by_name, ["admin interface cannot listen", "SocketMode=0600"]);
    eventually("a socket of its own", PATIENCE, || {
        UnixStream::connect(by_name.directory().join("mine.sock")).ok()
    });
}

fn what_is_passed_and_not_used_is_said(engine: Engine) {
    let (frontend, address) = held();
    let (other, other_address) = held();
    let ringway = ringway(engine)
        .config(&app(address, &[free_address()], NO_CHECKS))
        .passed("web", other)
        .passed("unknown", frontend)
        .passed("dns", UdpSocket::bind("127.0.0.1:0").expect("a port"))
        .passed("log", fs::File::open("/dev/null").expect("it is there"))
        .start();
    is_said(&ringway, ["passed socket serves nothing", &format!("socket=web at {other_address}")]);
    is_said(&ringway, ["not a stream socket", "name=\"dns\""]);
    is_said(&ringway, ["not a socket", "name=\"log\""]);
}

fn frontend_that_a_reload_removes_and_brings_back_has_its_socket_again(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let several = listener_for_several();
    let address = several.local_addr().expect("it is bound");
    let (kept, kept_address) = held();
    let held = several.try_clone().expect("a handle");
    let backends = format!("\"{}\"", backend.address());
    let config = |frontends: &str| app_of(frontends, &backends, NO_CHECKS);
    let both = format!("\"{address}\", \"{kept_address}\"");
    let ringway = ringway(engine).config(&config(&both)).passed("web", held).passed("unknown", kept).start();
    let put = |frontends: &str| {
        let text = format!("[admin]\nlisten = \"{}\"\n\n{}", ringway.admin_address(), config(frontends));
        let answer = ringway.admin_put("/config", "application/toml", &text);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    let told = format!("the passed socket web at {address} serves nothing");
    assert!(put(&format!("\"{kept_address}\"")).contains(&told));
    eventually("only the holder has it", PATIENCE, || (sockets_at(address) == 1).then_some(()));
    let waiting = client::connect(address).expect("the holder listens");
    assert!(!put(&both).contains("serves nothing"));
    echoes(waiting);
    for _ in 0..20 {
        echoes(client::connect(address).expect("it listens"));
    }
}

fn supervisor_leaves_passed_sockets_to_each_server_that_it_starts(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let ((held, address), (admin, admin_address)) = (held(), held());
    let app = app(address, &[backend.address()], NO_CHECKS);
    let mut ringway = ringway(engine)
        .config_file("ringway.toml", &format!("[admin]\nlisten = \"{admin_address}\"\n{app}"))
        .passed("admin", admin.try_clone().expect("a handle"))
        .passed("ringway.socket", held.try_clone().expect("a handle"))
        .argument("--supervise")
        .start();
    let serving = || {
        let page = testkit::http::get(admin_address, "/status").expect("it answers").body;
        let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
        u32::try_from(page["pid"].as_u64().expect("a number")).expect("a process id")
    };
    is_said(&ringway, ["socket was passed", "serves=\"app\""]);
    assert_ne!(serving(), ringway.process().id(), "the supervisor serves nobody");
    for upgrades in [false, true] {
        let mut first = serving();
        if upgrades {
            let output = crate::support::command(&ringway, &["upgrade"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_ne!(std::mem::replace(&mut first, serving()), serving());
        }
        echoes(client::connect(address).expect("it listens"));
        let kill = std::process::Command::new("kill").args(["-9", &first.to_string()]).status();
        assert!(kill.expect("there is a kill").success());
        ringway.process().wait_for_line("a crash", PATIENCE, |line| {
            line.contains(&format!("supervisor: process {first} was ended by signal 9"))
        });
        // The socket has outlived its server, and whoever comes meanwhile waits for the next.
        echoes(client::connect(address).expect("somebody holds the socket"));
        eventually("the admin interface, too", PATIENCE, || {
            testkit::http::get(admin_address, "/healthz").ok().filter(|page| page.body == "ok\n").map(drop)
        });
        assert_ne!(serving(), first);
    }
    assert_eq!(sockets_at(address), 1, "none was bound beside it");
    ringway.terminate();
    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
}
