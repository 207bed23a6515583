//! `server.watch`: files that change are applied, by whatever way they do.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, start, status};

on_both_engines!(
    a_file_is_applied_however_it_is_saved,
    a_link_that_is_made_to_lead_elsewhere_is_another_file,
    fragments_and_lists_are_watched_too,
    a_faulty_file_changes_nothing_and_each_fault_is_told_once,
);

const WATCH: &str = "[server]\nwatch = true\n";

fn app(name: &str, frontend: SocketAddr, backend: SocketAddr, more: &str) -> String {
    format!(
        "[[app]]\nname = \"{name}\"\nlisten = [\"{frontend}\"]\nbackends = [\"{backend}\"]\n{NO_CHECKS}\n{more}\n"
    )
}

/// The whole file: what it was started with up to the first app, and these apps.
fn file(ringway: &Ringway, apps: &str) -> String {
    let before = fs::read_to_string(ringway.directory().join("ringway.toml")).expect("it is there");
    let head = before.split("[[app]]").next().expect("there is a first part");
    format!("{head}{apps}")
}

fn wait_version(ringway: &Ringway, version: u64) {
    eventually(&format!("version {version}"), PATIENCE, || {
        (status(ringway)["config"]["version"] == version).then_some(())
    });
    assert_eq!(status(ringway)["config"]["origin"], "watch");
}

fn wait_open(frontend: SocketAddr) {
    eventually("it listens", PATIENCE, || client::connect(frontend).ok());
}

fn started(engine: Engine, apps: &str) -> Ringway {
    let ringway = start(engine, &format!("{WATCH}{apps}"));
    ringway.process().wait_for_line("it watches", PATIENCE, |line| line.contains("watching the files"));
    ringway
}

fn a_file_is_applied_however_it_is_saved(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let [first, second, third, fourth] = [(); 4].map(|()| free_address());
    let of = |frontend| app("app", frontend, backend.address(), "");
    let ringway = started(engine, &of(first));
    let path = ringway.directory().join("ringway.toml");

    fs::write(&path, file(&ringway, &of(second))).expect("in its place");
    wait_version(&ringway, 2);
    wait_open(second);

    let beside = ringway.directory().join("ringway.toml.new");
    fs::write(&beside, file(&ringway, &of(third))).expect("beside it");
    fs::rename(&beside, &path).expect("over it");
    wait_version(&ringway, 3);
    wait_open(third);

    let text = file(&ringway, &of(fourth));
    fs::rename(&path, ringway.directory().join("ringway.toml~")).expect("kept as a backup");
    fs::write(&path, text).expect("made anew");
    wait_version(&ringway, 4);
    wait_open(fourth);
}

/// As Kubernetes mounts a ConfigMap and changes it.
fn a_link_that_is_made_to_lead_elsewhere_is_another_file(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (first, second) = (free_address(), free_address());
    let ringway = started(engine, &app("app", first, backend.address(), ""));
    let at = |name: &str| ringway.directory().join(name);
    let version = |name: &str, apps: &str| {
        fs::create_dir(at(name)).expect("it is made");
        fs::write(at(name).join("ringway.toml"), file(&ringway, apps)).expect("it is written");
        symlink(name, at("..data.new")).expect("it is made");
        fs::rename(at("..data.new"), at("..data")).expect("it is swapped");
    };
    version("..1", &app("app", first, backend.address(), ""));
    symlink("..data/ringway.toml", at("link")).expect("it is made");
    fs::rename(at("link"), at("ringway.toml")).expect("it takes the place of the file");
    ringway
        .process()
        .wait_for_line("it is read", PATIENCE, |line| line.contains("configuration is the same"));

    version("..2", &app("app", second, backend.address(), ""));
    wait_version(&ringway, 2);
    wait_open(second);
}

fn fragments_and_lists_are_watched_too(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (first, second) = (free_address(), free_address());
    let ringway = started(engine, &app("app", first, backend.address(), ""));
    let at = |name: &str| ringway.directory().join(name);
    let main = file(&ringway, &app("app", first, backend.address(), ""));
    fs::write(at("ringway.toml"), format!("include = \"conf.d/*.toml\"\n{main}")).expect("it is written");
    ringway
        .process()
        .wait_for_line("it is read", PATIENCE, |line| line.contains("configuration is the same"));

    // The directory comes, and a fragment in it, and a list that it names.
    fs::create_dir(at("conf.d")).expect("it is made");
    fs::write(at("conf.d/networks"), "10.0.0.0/8\n").expect("it is written");
    let limits = "[app.limits]\nallow = [\"127.0.0.0/8\"]\ndeny = [{ file = \"networks\" }]\n";
    fs::write(at("conf.d/more.toml"), app("more", second, backend.address(), limits)).expect("it is written");
    wait_version(&ringway, 2);
    wait_open(second);

    fs::write(at("conf.d/networks"), "10.0.0.0/8\n10.0.0.0/9\n").expect("it is written");
    wait_version(&ringway, 3);
    fs::remove_file(at("conf.d/more.toml")).expect("it is removed");
    wait_version(&ringway, 4);
    eventually("its frontend is closed", PATIENCE, || client::connect(second).is_err().then_some(()));
}

fn a_faulty_file_changes_nothing_and_each_fault_is_told_once(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (first, second) = (free_address(), free_address());
    let ringway = started(engine, &app("app", first, backend.address(), ""));
    let path = ringway.directory().join("ringway.toml");
    let good = file(&ringway, &app("app", second, backend.address(), ""));
    let faulty =
        good.replace("listen = [", "lisden = [").replace("[app.health]", "balance = \"fair\"\n[app.health]");
    fs::write(&path, faulty).expect("it is written");
    ringway.process().wait_for_line("it is refused", PATIENCE, |line| line.contains("configuration refused"));
    assert_eq!(status(&ringway)["config"]["version"], 1);
    wait_open(first);
    // What is beside it is not part of it.
    fs::write(ringway.directory().join("notes.txt"), "remember").expect("it is written");

    fs::write(&path, good).expect("it is written");
    wait_version(&ringway, 2);
    wait_open(second);
    let lines = ringway.process().lines();
    let told = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    for what in ["lisden: unknown key", "balance: found \"fair\"", "listen: missing", "configuration refused"]
    {
        assert_eq!(told(what), 1, "{what} in {lines:#?}");
    }
}
