//! The admin interface over a real socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::control::status::{Status, testing};

async fn get(admin: &Admin, target: &str) -> String {
    request(admin, &format!("GET {target}"), "").await
}

async fn request(admin: &Admin, order: &str, headers: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(axum::serve(listener, router(admin.clone())).into_future());
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{order} HTTP/1.1\r\nHost: ringway\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("it answers");
    server.abort();
    response
}

fn admin() -> Admin {
    let process = Arc::new(testing::process());
    let operator = Operator::new(Arc::clone(&process), Vec::new(), tokio::sync::mpsc::unbounded_channel().0);
    let (requests, _) = Requests::channel();
    Admin { process, operator, is_draining: Arc::default(), requests, elders: Arc::default() }
}

#[tokio::test]
async fn health_turns_bad_when_draining_begins() {
    let admin = admin();
    assert!(get(&admin, "/healthz").await.starts_with("HTTP/1.1 200 "));
    admin.is_draining.store(true, Ordering::Relaxed);
    assert!(get(&admin, "/healthz").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn status_is_json_that_the_client_reads() {
    let response = get(&admin(), "/status").await;
    let body = response.split("\r\n\r\n").nth(1).expect("a body");
    let status: Status = serde_json::from_str(body).expect("the same type");
    assert_eq!(status.apps[0].backends[0].endpoints[0].address, "127.0.0.1:3000");
}

#[tokio::test]
async fn orders_come_from_the_command_line_and_not_from_a_web_page() {
    let admin = admin();
    let order = "DELETE /connections?all=true";
    assert!(request(&admin, order, "Origin: http://127.0.0.1:9900\r\n").await.starts_with("HTTP/1.1 403 "));
    assert!(request(&admin, order, "").await.ends_with("{\"killed\":0}"));
    assert!(request(&admin, "POST /connections?all=true", "").await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn a_refusal_says_why_in_json() {
    let response = get(&admin(), "/connections?app=ap").await;
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
    assert!(
        response.ends_with("{\"error\":\"no app is called \\\"ap\\\"; did you mean \\\"app\\\"?\"}"),
        "{response}"
    );
    assert!(get(&admin(), "/connections?apps=x").await.starts_with("HTTP/1.1 400 "));
    assert!(get(&admin(), "/connections?app=app").await.ends_with("{\"matched\":0,\"connections\":[]}"));
}

#[tokio::test]
async fn metrics_are_in_the_format_of_prometheus() {
    let response = get(&admin(), "/metrics").await;
    assert!(response.contains("text/plain; version=0.0.4"), "{response}");
    assert!(response.contains("\n# TYPE ringway_build_info gauge\n"), "{response}");
}

#[tokio::test]
async fn other_paths_are_not_found() {
    assert!(get(&admin(), "/").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test(start_paused = true)]
async fn a_busy_address_is_tried_until_it_is_free() {
    let busy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = busy.local_addr().expect("an address");
    let (tried, first) = oneshot::channel();
    let door = Arc::new(Door::new());
    let server = tokio::spawn(serve(admin(), address.into(), None, None, door, tried));
    first.await.expect("an attempt is made");
    drop(busy);
    // Paused time passes only while everybody waits, so each turn is another attempt.
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(RETRY_MIN).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), connected).await.expect("it listens in the end");
    server.abort();
}

#[tokio::test]
async fn whoever_was_let_in_is_answered_after_the_door_is_shut_and_nobody_else_is_let_in() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    // Another process listens there, too.
    let other = socket.try_clone().expect("a handle");
    let made = Listener::from_descriptor(socket.into()).expect("it listens");
    let door = Arc::new(Door::new());
    let (tried, first) = oneshot::channel();
    let server = tokio::spawn(serve(admin(), address.into(), Some(made), None, Arc::clone(&door), tried));
    first.await.expect("an attempt is made");
    // One place is taken by whoever comes next.
    let room = bounded::room().available_permits() - 1;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let is_in = async {
        while door.room().available_permits() >= room {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_in).await.expect("it is let in");
    door.shut();
    let late = TcpStream::connect(address).await.expect("the other one listens");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.expect("it is open");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("it answers");
    assert!(response.starts_with("HTTP/1.0 200 "), "{response}");
    other.set_nonblocking(true).expect("an option");
    let (_, came) = other.accept().expect("nobody took it");
    assert_eq!(came, late.local_addr().expect("an address"));
    tokio::time::timeout(Duration::from_secs(30), server).await.expect("it ends").expect("without panic");
}

#[tokio::test]
async fn passed_socket_is_served_if_it_keeps_others_out() {
    use std::os::unix::net::UnixListener;
    let path = std::env::temp_dir().join(format!("ringway-passed-{}", std::process::id()));
    let socket = UnixListener::bind(&path).expect("a path");
    let of = |fd: OwnedFd| Listener::from_descriptor(fd).expect("it listens").held_elsewhere();
    let passed = || of(socket.try_clone().expect("a clone").into());
    for (mode, is_served) in [(0o666, false), (0o660, true), (0o600, true)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        assert_eq!(Bound::of_listener(passed()).is_ok(), is_served, "{mode:o}");
    }
    fs::remove_file(&path).expect("it stays, as it is somebody else's");
    let any = of(std::net::TcpListener::bind("0.0.0.0:0").expect("a port").into());
    let error = Bound::of_listener(any).err();
    assert!(error.expect("it is refused").to_string().contains("loopback"));
}
