//! Configurations of several files: what is read, in which order, and whose fault a fault is.

use std::path::Path;

use ringway_proxy::config::{self, Format, Fragment, Known, Loaded};
use tempfile::TempDir;

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

fn app(name: &str, port: u16) -> String {
    format!("[[app]]\nname = '{name}'\nlisten = ['127.0.0.1:{port}']\nbackends = ['10.0.0.1:80']\n")
}

fn loaded(directory: &TempDir) -> Loaded {
    match config::load(&directory.path().join("main.toml")) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{}", config::render_faults(&errors)),
    }
}

fn names(directory: &TempDir) -> Vec<String> {
    loaded(directory).config.apps.into_iter().map(|app| app.name).collect()
}

/// What is said about the files, with `DIR` for the directory.
fn faults(files: &[(&str, &str)]) -> Vec<String> {
    let directory = directory(files);
    let path = directory.path().to_str().unwrap();
    let errors = config::load(&directory.path().join("main.toml")).unwrap_err();
    errors.faults().iter().map(|fault| fault.to_string().replace(path, "DIR")).collect()
}

#[test]
fn apps_of_included_files_follow_those_of_the_main_file_in_the_order_of_paths() {
    let main = format!("include = ['more.json', 'conf.d/*']\n{}", app("main", 1));
    let yaml = "app: [{ name: yaml, listen: ['127.0.0.1:3'], backends: ['10.0.0.1:80'] }]\n";
    let json = r#"{"app": [{"name": "json", "listen": ["127.0.0.1:4"], "backends": ["10.0.0.1:80"]}]}"#;
    let files = [
        ("main.toml", main.as_str()),
        ("conf.d/20.yaml", yaml),
        ("conf.d/10.toml", &app("toml", 2)),
        ("conf.d/.hidden.toml", "what an editor left"),
        ("conf.d/a.directory/x.toml", "not asked for"),
        ("more.json", json),
        ("other.toml", "not asked for"),
    ];
    assert_eq!(names(&directory(&files)), ["main", "toml", "yaml", "json"]);
}

#[test]
fn a_pattern_without_files_and_a_file_without_apps_are_fine() {
    for include in [
        "'conf.d/*.toml'",
        "['conf.d/*.toml', '?.yaml']",
        "[]",
        "'empty.toml'",
        "['empty.toml', 'empt?.toml']",
    ] {
        let main = format!("include = {include}\n{}", app("main", 1));
        let files = [("main.toml", main.as_str()), ("empty.toml", "# [[app]]\n")];
        assert_eq!(names(&directory(&files)), ["main"], "{include}");
    }
}

#[test]
fn relative_paths_in_an_included_file_count_from_its_own_directory() {
    let app = "[[app]]\nname = 'a'\nlisten = ['unix:a.sock']\nbackends = ['unix:b.sock']\n\
               [app.limits]\nallow = [{ file = 'networks.txt' }]\n";
    let files = [
        ("main.toml", "include = 'conf.d/a.toml'\n"),
        ("conf.d/a.toml", app),
        ("conf.d/networks.txt", "10.0.0.0/8\n"),
    ];
    let directory = directory(&files);
    let frontend = &loaded(&directory).config.apps[0].frontends[0];
    assert!(format!("{:?}", frontend.address).contains("/conf.d/a.sock"), "{frontend:?}");
}

#[test]
fn faults_name_the_file_that_they_are_in() {
    let files = [
        ("main.toml", "include = 'conf.d/*'\nnonsense = 1\n"),
        ("conf.d/a.toml", "[[app]]\nname = 'a'\nlistn = []\nbackends = ['10.0.0.1:80']\n"),
    ];
    assert_eq!(
        faults(&files),
        [
            "DIR/main.toml:2:1: nonsense: unknown key",
            r#"DIR/conf.d/a.toml:1:1: app[0].listen: missing; expected an array of addresses, as [":443"]"#,
            r#"DIR/conf.d/a.toml:3:1: app[0].listn: unknown key; did you mean "listen"?"#,
        ]
    );
}

#[test]
fn what_is_not_an_app_belongs_in_the_main_file() {
    let files = [
        ("main.toml", "include = 'conf.d/*'\n"),
        ("conf.d/b.toml", "[server]\nworkers = 2\n[admin]\nlisten = '127.0.0.1:1'\n"),
        ("conf.d/c.toml", "include = 'd'\nserver.workers = 3\nApps = []\n"),
        ("conf.d/e.json", "[]"),
    ];
    assert_eq!(
        faults(&files),
        [
            "DIR/conf.d/b.toml:1:2: server: an included file has apps only; this belongs in DIR/main.toml",
            "DIR/conf.d/b.toml:3:2: admin: an included file has apps only; this belongs in DIR/main.toml",
            "DIR/conf.d/c.toml:1:1: include: an included file includes no others; this belongs in DIR/main.toml",
            "DIR/conf.d/c.toml:2:1: server: an included file has apps only; this belongs in DIR/main.toml",
            r#"DIR/conf.d/c.toml:3:1: Apps: unknown key; did you mean "app"?"#,
            "DIR/conf.d/e.json:1:1: found an array, expected a table",
        ]
    );
}

#[test]
fn what_two_files_have_both_is_a_fault_with_both_places() {
    let main = format!("include = 'conf.d/*'\n{}", app("web", 1));
    let second = format!("# A comment.\n{}", app("web", 2));
    let files = [("main.toml", main.as_str()), ("conf.d/a.toml", &second), ("conf.d/b.toml", &app("b", 1))];
    assert_eq!(
        faults(&files),
        [
            r#"DIR/conf.d/a.toml:3:8: app[0].name: "web" is the name of app[0].name in DIR/main.toml:3 too"#,
            "DIR/conf.d/b.toml:3:11: app[0].listen[0]: app[0].listen[0] in DIR/main.toml:4 listens here already",
        ]
    );
    let main = format!("include = 'a.toml'\n[admin]\nlisten = '127.0.0.1:2'\n{}", app("web", 1));
    assert_eq!(
        faults(&[("main.toml", &main), ("a.toml", &second.replace("web", "a"))]),
        ["DIR/main.toml:3:10: admin.listen: app[0].listen[0] in DIR/a.toml:4 listens here already"]
    );
}

#[test]
fn files_that_cannot_be_read_are_faults_of_include_or_their_own() {
    let apps = app("main", 1);
    let of = |include: &str, more: (&str, &str)| {
        let main = format!("include = {include}\n{apps}");
        faults(&[("main.toml", &main), more])
    };
    let other = ("x", "");
    assert_eq!(
        of("['gone.toml', 'conf.d']", ("conf.d/a", "")),
        [
            "DIR/main.toml:1:12: include[0]: gone.toml cannot be read: No such file or directory (os error 2)",
            "DIR/main.toml:1:25: include[1]: conf.d cannot be read: Is a directory (os error 21)",
        ]
    );
    assert_eq!(
        of("'x/*.toml'", other),
        ["DIR/main.toml:1:11: include: x/*.toml cannot be searched: Not a directory (os error 20)"]
    );
    assert_eq!(
        of("'*.toml'", other),
        ["DIR/main.toml:1:11: include: this is the file itself; keep fragments in a directory of their own"]
    );
    assert_eq!(of("'x'", other), ["DIR/x: the language goes by the extension: .toml, .yaml, .yml or .json"]);
    assert_eq!(of("'x.json'", ("x.json", "")), ["DIR/x.json:1:1: not valid JSON: the file is empty"]);
    let directory = directory(&[("main.toml", "include = 'x.toml'\n")]);
    std::fs::write(directory.path().join("x.toml"), b"a = '\xff'").unwrap();
    let errors = config::load(&directory.path().join("main.toml")).unwrap_err().to_string();
    assert!(errors.ends_with("/x.toml:1:6: not UTF-8 from here on"), "{errors}");
}

#[test]
fn a_broken_file_is_its_own_fault_and_not_that_of_others() {
    let main = format!("include = 'conf.d/*'\n{}", app("web", 1));
    let broken = format!("{}listen = [\nname = 'web'\n", app("web", 1));
    let files = [("main.toml", main.as_str()), ("conf.d/a.toml", &broken), ("conf.d/b.toml", "nonsense = 1")];
    let found = faults(&files);
    assert!(
        found.iter().any(|fault| fault.starts_with("DIR/conf.d/a.toml:") && fault.contains("not valid TOML"))
    );
    assert!(found.contains(&"DIR/conf.d/b.toml:1:1: nonsense: unknown key".to_owned()), "{found:?}");
    assert!(!found.iter().any(|fault| fault.starts_with("DIR/main.toml")), "{found:?}");
}

#[test]
fn without_any_app_there_is_nothing_to_do() {
    assert_eq!(
        faults(&[("main.toml", "include = 'conf.d/*.toml'\n")]),
        ["DIR/main.toml:1:11: include: there is no app, neither here nor in an included file"]
    );
}

#[test]
fn a_text_that_is_sent_includes_what_is_sent_with_it_and_reads_no_file() {
    let text = format!("include = 'conf.d/*.toml'\n{}", app("main", 1));
    let check = |fragments: Option<&[Fragment]>| {
        config::load_text(
            &text,
            Format::Toml,
            None,
            Path::new("/etc/ringway.toml"),
            fragments,
            &Known::default(),
        )
    };
    let sent = Fragment { path: "conf.d/a.toml".into(), text: app("a", 2) };
    assert_eq!(check(Some(&[sent])).unwrap().apps.len(), 2);
    assert_eq!(check(Some(&[])).unwrap().apps.len(), 1);
    assert_eq!(
        check(None).unwrap_err().to_string(),
        "1:11: include: a configuration that is sent includes no files; put its apps in it, or change the files and have \
         them read by a reload"
    );
}
