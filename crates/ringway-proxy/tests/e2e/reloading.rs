//! Other configurations while connections are open: by SIGHUP and by `ringway reload`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, Signal, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, access_line, command, field, start, status, wait_connections};
use crate::upgrade::upgrade;

on_both_engines!(
    backends_of_a_reload_get_new_connections_and_open_ones_go_on,
    hangup_reads_the_file_again,
    apps_come_and_go_and_the_others_are_not_touched,
    faulty_file_is_refused_whole_with_every_fault,
    plan_says_what_would_change_and_changes_nothing,
    rollback_brings_an_earlier_version_back,
    configuration_that_is_put_is_applied_or_refused_whole,
    clients_in_the_kernels_queue_are_served_by_the_app_that_gets_their_address,
    connections_of_removed_backends_end_as_the_policy_says,
    connections_of_removed_backends_end_when_it_is_time_whichever_process_serves,
    apps_of_included_files_come_and_go_with_their_files,
    logs_and_the_limit_on_connections_change_while_the_process_runs,
);

/// An app of this name.
fn app(name: &str, frontend: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "[[app]]\nname = \"{name}\"\nlisten = [\"{frontend}\"]\nbackends = [\"{backend}\"]\n{NO_CHECKS}\n"
    )
}

/// Writes another configuration in the place of the one that runs; its first lines, with `[admin]`, stay.
pub(crate) fn write_config(ringway: &Ringway, text: &str) {
    let file = ringway.directory().join("ringway.toml");
    let before = std::fs::read_to_string(&file).expect("it was started with it");
    let admin = before.split("\n\n").next().expect("the admin section comes first");
    std::fs::write(&file, format!("{admin}\n\n{text}")).expect("the directory can be written to");
}

/// `ringway reload`; what it prints.
pub(crate) fn reload(ringway: &Ringway) -> String {
    let output = command(ringway, &["reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn says(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("it takes bytes");
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, text.as_bytes());
}

fn opened(frontend: SocketAddr) -> TcpStream {
    let mut stream = client::connect(frontend).expect("the frontend listens");
    says(&mut stream, "hello");
    stream
}

fn backends_of_a_reload_get_new_connections_and_open_ones_go_on(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let ringway = start(engine, &app("web", frontend, first.address()));
    let mut old: Vec<_> = (0..20).map(|_| opened(frontend)).collect();
    write_config(&ringway, &app("web", frontend, second.address()));
    assert_eq!(
        reload(&ringway),
        format!(
            "version 2 runs\nchanged web: 20 of 20 connections touched\n  \
             - backend {} (20 connections: kept until they end)\n  + backend {}\n",
            first.address(),
            second.address()
        )
    );
    let mut new: Vec<_> = (0..20).map(|_| opened(frontend)).collect();
    old.iter_mut().chain(&mut new).for_each(|stream| says(stream, "still here"));
    assert_eq!((first.accepted(), second.accepted()), (20, 20));
    assert_eq!(ringway.metric("ringway_connections_accepted_total", "app=\"web\""), 40.0);
    assert_eq!(reload(&ringway), "version 2 runs: nothing has changed\n");
}

fn hangup_reads_the_file_again(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let ringway = start(engine, &app("web", frontend, first.address()));
    let mut old = opened(frontend);
    write_config(&ringway, &app("web", frontend, second.address()));
    ringway.process().signal(Signal::HUP);
    eventually("the second version", PATIENCE, || (status(&ringway)["config"]["version"] == 2).then_some(()));
    assert_eq!(status(&ringway)["config"]["origin"], "SIGHUP");
    let _new = opened(frontend);
    says(&mut old, "still here");
    assert_eq!((first.accepted(), second.accepted()), (1, 1));
}

fn apps_come_and_go_and_the_others_are_not_touched(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (kept, gone, new) = (free_address(), free_address(), free_address());
    let (kept_app, gone_app) = (app("kept", kept, backend.address()), app("gone", gone, backend.address()));
    let ringway = start(engine, &format!("{kept_app}{gone_app}"));
    let (mut first, mut second) = (opened(kept), opened(gone));
    write_config(&ringway, &format!("{}{kept_app}", app("new", new, backend.address())));
    let said = reload(&ringway);
    assert!(
        said.contains("\nadded new\n") && said.contains("\nremoved gone: 1 of 1 connection touched\n"),
        "{said}"
    );
    let _third = opened(new);
    says(&mut first, "still here");
    says(&mut second, "still here");
    eventually("the address is closed", PATIENCE, || TcpStream::connect(gone).is_err().then_some(()));
    assert_eq!(ringway.metric("ringway_connections", "app=\"gone\""), 1.0);
    drop(second);
    eventually("nothing is left of it", PATIENCE, || {
        (!ringway.admin("/metrics").body.contains("app=\"gone\"")).then_some(())
    });
    assert_eq!(ringway.metric("ringway_connections_accepted_total", "app=\"kept\""), 1.0);
}

fn faulty_file_is_refused_whole_with_every_fault(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = start(engine, &app("web", frontend, backend.address()));
    let faulty = format!(
        "{}listn = []\nbalance = \"fair\"\n",
        "[[app]]\nname = \"new\"\nlisten = [\"127.0.0.1:70000\"]\nbackends = [\"127.0.0.1:1\"]\n"
    );
    write_config(&ringway, &format!("{}{faulty}", app("web", free_address(), backend.address())));
    let output = command(&ringway, &["reload"]);
    let check = command(&ringway, &["check"]);
    assert_eq!((output.status.code(), check.status.code()), (Some(2), Some(2)));
    let (said, checked) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&check.stderr));
    for fault in ["70000", "listn", "fair", "3 faults"] {
        assert!(said.contains(fault), "no {fault} in {said}");
    }
    let faults =
        |text: &str| text.lines().filter(|line| line.contains(" | ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(faults(&said), faults(&checked), "reload says what check says");
    assert_eq!(status(&ringway)["config"]["version"], 1);
    let _still = opened(frontend);
}

fn plan_says_what_would_change_and_changes_nothing(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let (frontend, other) = (free_address(), free_address());
    let ringway = start(engine, &app("web", frontend, first.address()));
    let _open: Vec<_> = (0..3).map(|_| opened(frontend)).collect();
    let said = |arguments: &[&str]| {
        let output = command(&ringway, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(said(&["plan"]), "version 1 runs: nothing would change\n");
    write_config(&ringway, &app("web", frontend, second.address()));
    let (old, new) = (first.address(), second.address());
    let changes = format!(
        "changed web: 3 of 3 connections touched\n  \
         - backend {old} (3 connections: kept until they end)\n  + backend {new}\n"
    );
    assert_eq!(said(&["plan"]), format!("version 1 runs; a reload would change:\n{changes}0 unchanged\n"));

    // A file of another name, with workers that stay as they are.
    let file = ringway.directory().join("ringway.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let more = format!("[server]\nspin = \"1ms\"\n\n{text}{}", app("more", other, second.address()));
    std::fs::write(ringway.directory().join("next.toml"), more).expect("it can be written");
    let plan = said(&["plan", "--config", "next.toml"]);
    assert!(plan.contains("\nadded more\n"), "{plan}");
    assert!(plan.contains("server.spin changes with a restart only"), "{plan}");
    let plan: serde_json::Value = serde_json::from_str(&said(&["plan", "--json"])).expect("JSON");
    assert_eq!(plan["difference"]["apps"][0]["touched"], 3);
    assert_eq!(status(&ringway)["config"]["version"], 1);
    let nobody = command(&ringway, &["plan", "--admin", &free_address().to_string()]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no ringway answers"));
}

fn rollback_brings_an_earlier_version_back(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let ringway = start(engine, &app("web", frontend, first.address()));
    write_config(&ringway, &app("web", frontend, second.address()));
    reload(&ringway);
    let mut on_second = opened(frontend);
    let output = command(&ringway, &["rollback"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("version 3 runs\nchanged web"), "{output:?}");
    let _on_first = opened(frontend);
    says(&mut on_second, "still here");
    assert_eq!((first.accepted(), second.accepted()), (1, 1));
    let versions = String::from_utf8(command(&ringway, &["versions"]).stdout).expect("text");
    assert_eq!(versions.lines().count(), 4, "{versions}");
    assert!(versions.contains("rollback to 1") && versions.contains("3*"), "{versions}");
    let unknown = command(&ringway, &["rollback", "17"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("version 17 is not kept"));
}

fn configuration_that_is_put_is_applied_or_refused_whole(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let ringway = start(engine, &app("web", frontend, first.address()));
    let admin = ringway.admin_address();
    let put = |content_type: &str, text: &str| ringway.admin_put("/config", content_type, text);
    let json = format!(
        "{{\"admin\": {{\"listen\": \"{admin}\"}}, \"app\": [{{\"name\": \"web\", \"listen\": [\"{frontend}\"], \
         \"backends\": [\"{}\"], \"health\": {{\"check\": \"none\"}}}}]}}",
        second.address()
    );
    assert_eq!(put("application/json", &json).status, 200);
    let mut stream = opened(frontend);
    assert_eq!((first.accepted(), second.accepted()), (0, 1));
    assert_eq!(status(&ringway)["config"]["origin"], "PUT");
    let refused = put("application/toml", "[[app]]\nname = 1\nlisten = [\"x\"]\n");
    assert_eq!(refused.status, 422);
    let page: serde_json::Value = serde_json::from_str(&refused.body).expect("JSON");
    assert_eq!(page["faults"].as_array().map(Vec::len), Some(3), "{page}");
    assert_eq!(put("text/plain", &json).status, 415);
    assert_eq!(status(&ringway)["config"]["version"], 2);
    says(&mut stream, "still here");
}

fn clients_in_the_kernels_queue_are_served_by_the_app_that_gets_their_address(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let limit = "[server]\nmax_connections = 2\n\n";
    let ringway = start(engine, &format!("{limit}{}", app("old", frontend, first.address())));
    // Both places are taken: accepting rests, and whoever comes waits in the kernel.
    let holders: Vec<_> = (0..2).map(|_| opened(frontend)).collect();
    let waiting: Vec<_> =
        (0..30).map(|_| client::connect(frontend).expect("the kernel accepts for it")).collect();
    write_config(&ringway, &format!("{limit}{}", app("new", frontend, second.address())));
    reload(&ringway);
    let threads: Vec<_> = waiting
        .into_iter()
        .map(|mut stream| std::thread::spawn(move || says(&mut stream, "hello")))
        .collect();
    drop(holders);
    for thread in threads {
        thread.join().expect("nobody is reset");
    }
    // The worker that took the last place rests. The other one may have taken its own at once: they wait in its line,
    // and are the old app's.
    assert!(second.accepted() > 0, "nobody waited in the kernel");
    assert_eq!(first.accepted() + second.accepted(), 32);
}

fn connections_of_removed_backends_end_as_the_policy_says(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let (frontend, unlike) = (free_address(), free_address());
    let with = |policy: &str, backend: &Backend| {
        let app = app("web", frontend, backend.address());
        app.replacen("[app.health]", &format!("removed_backends = \"{policy}\"\n[app.health]"), 1)
            + &self::app("other", unlike, first.address())
    };
    let ringway = start(engine, &with("close", &first));
    let mut untouched = opened(unlike);
    let (mut one, mut two) = (opened(frontend), opened(frontend));
    write_config(&ringway, &with("close", &second));
    assert!(reload(&ringway).contains("(2 connections: closed)"));
    for stream in [&mut one, &mut two] {
        assert!(!matches!(stream.read(&mut [0]), Ok(1..)), "it is closed");
    }
    let client = one.local_addr().expect("it was connected");
    assert_eq!(field(&access_line(&ringway, client), "why"), "removed");

    let mut spared = opened(frontend);
    write_config(&ringway, &with("1h", &first));
    assert!(reload(&ringway).contains("(1 connection: closed after 3600s)"));
    says(&mut spared, "for an hour");
    // It comes back before its time: nothing is closed.
    write_config(&ringway, &with("50ms", &second));
    reload(&ringway);
    assert_eq!(
        ringway
            .metric("ringway_endpoint_connections", &format!("app=\"web\",backend=\"{}\"", second.address())),
        1.0
    );
    write_config(&ringway, &with("50ms", &first));
    reload(&ringway);
    assert!(!matches!(spared.read(&mut [0]), Ok(1..)), "its time is over");
    says(&mut untouched, "still here");
}

fn connections_of_removed_backends_end_when_it_is_time_whichever_process_serves(engine: Engine) {
    let time = Duration::from_secs(4);
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let with = |backend: &Backend| {
        let policy = "removed_backends = \"4s\"\n[app.health]";
        app("web", frontend, backend.address()).replacen("[app.health]", policy, 1)
    };
    let ringway = start(engine, &with(&first));
    let mut old = opened(frontend);
    let client = old.local_addr().expect("it was connected");
    write_config(&ringway, &with(&second));
    let begun = Instant::now();
    assert!(reload(&ringway).contains("(1 connection: closed after 4s)"));
    upgrade(&ringway, &[]);
    upgrade(&ringway, &[]);
    let mut new = opened(frontend);
    assert!(!matches!(old.read(&mut [0]), Ok(1..)), "its time is over");
    assert!(begun.elapsed() >= time, "{:?}", begun.elapsed());
    assert_eq!(field(&access_line(&ringway, client), "why"), "removed");
    says(&mut new, "still here");
}

fn apps_of_included_files_come_and_go_with_their_files(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (kept, new, more) = (free_address(), free_address(), free_address());
    let ringway = start(engine, &app("kept", kept, backend.address()));
    let mut open = opened(kept);
    let main = ringway.directory().join("ringway.toml");
    let text = std::fs::read_to_string(&main).expect("it was started with it");
    let text = format!("include = \"conf.d/*.toml\"\n\n{text}");
    std::fs::write(&main, &text).expect("it can be written");
    assert_eq!(reload(&ringway), "version 1 runs: nothing has changed\n", "there are none yet");

    let fragments = ringway.directory().join("conf.d");
    std::fs::create_dir(&fragments).expect("the directory can be written to");
    let fragment = fragments.join("new.toml");
    std::fs::write(&fragment, app("new", new, backend.address())).expect("it can be written");
    let check = command(&ringway, &["check"]);
    assert!(
        String::from_utf8_lossy(&check.stdout).ends_with("2 apps, 2 frontends, 2 backends, from 2 files\n")
    );
    let added = format!("added new\n  + listen {new}\n  + backend {}\n", backend.address());
    let plan = command(&ringway, &["plan"]);
    assert!(String::from_utf8_lossy(&plan.stdout).contains(&added), "{plan:?}");
    assert_eq!(reload(&ringway), format!("version 2 runs\n{added}"));
    let mut second = opened(new);

    // Another main file with fragments of its own, which are not beside the one that runs.
    let elsewhere = ringway.directory().join("next");
    std::fs::create_dir_all(elsewhere.join("conf.d")).expect("the directory can be written to");
    std::fs::write(elsewhere.join("ringway.toml"), &text).expect("it can be written");
    std::fs::write(elsewhere.join("conf.d/more.toml"), app("more", more, backend.address())).expect("it can");
    let plan = command(&ringway, &["plan", "--config", "next/ringway.toml"]);
    let plan = String::from_utf8_lossy(&plan.stdout);
    assert!(plan.contains("\nadded more\n") && plan.contains("\nremoved new: 1 of 1 connection"), "{plan}");
    let put = ringway.admin_put("/config", "application/toml", &text);
    assert!(
        put.status == 422 && put.body.contains("a configuration that is sent includes no files"),
        "{}",
        put.body
    );

    std::fs::write(&fragment, "[server]\nworkers = 1\n").expect("it can be written");
    let refused = command(&ringway, &["reload", "--admin", &ringway.admin_address().to_string()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("/conf.d/new.toml:1:2: server: an included file has apps only"), "{said}");
    std::fs::remove_file(&fragment).expect("it is there");
    let said = reload(&ringway);
    assert!(said.starts_with("version 3 runs\nremoved new: 1 of 1 connection touched\n"), "{said}");
    eventually("the address is closed", PATIENCE, || TcpStream::connect(new).is_err().then_some(()));
    says(&mut open, "still here");
    says(&mut second, "still here");
}

fn logs_and_the_limit_on_connections_change_while_the_process_runs(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let app = app("web", frontend, backend.address());
    let ringway = start(engine, &app);
    let limit = || status(&ringway)["connection_limit"].as_u64().expect("a number");
    let before = limit();
    let quiet = "[server]\nlog_level = \"error\"\naccess_log = false\nmax_connections = 1\n\n";
    write_config(&ringway, &format!("{quiet}{app}"));
    assert!(!reload(&ringway).contains("restart"));
    assert_eq!(limit(), 1);
    let first = opened(frontend);
    let mut second = client::connect(frontend).expect("the kernel takes it");
    let unheard = [&first, &second].map(|stream| stream.local_addr().expect("it is bound"));
    assert_eq!(status(&ringway)["connections"], 1, "the other one waits");
    first.shutdown(std::net::Shutdown::Both).expect("it is open");
    says(&mut second, "hello");
    drop((first, second));
    wait_connections(&ringway, 0);

    write_config(&ringway, &app);
    reload(&ringway);
    assert_eq!(limit(), before);
    let heard = {
        let both = [opened(frontend), opened(frontend)];
        both[0].local_addr().expect("it is bound")
    };
    access_line(&ringway, heard);
    let lines = ringway.process().lines();
    assert!(
        unheard.iter().all(|client| !lines.iter().any(|line| line.contains(&format!("client={client} "))))
    );
    let applied = |version: &str| {
        lines.iter().any(|line| line.contains("configuration applied") && line.contains(version))
    };
    assert!(applied("version=3") && !applied("version=2"), "{lines:?}");
}
