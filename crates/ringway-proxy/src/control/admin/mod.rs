//! The admin interface: pages and orders over HTTP on a loopback address or a Unix socket.
//!
//! Whoever may open a loopback connection, or the socket of mode 0600, may read everything here and give orders. Web
//! pages in a browser of that machine may not: what changes something is never GET, and is refused with an `Origin`.
//! An address that is busy is tried again until it is free: it never keeps the proxy from serving.

mod backend;
pub(in crate::control) mod bounded;
pub mod configuration;
mod connections;
mod door;
mod drain;
mod explain;
pub(in crate::control) mod left;
mod unix_socket;
mod upgrade;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use ringway::{Listener, SocketAddress};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::operator::{Operator, Refusal};
use super::reload::Requests;
use super::status::Process;
use super::upgrade::Elders;
use crate::metrics::page;
use bounded::Bounded;
pub(super) use door::Door;
use door::Entrance;

/// Between attempts to bind a busy address, at first; doubles up to ten seconds.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How long whoever was let in may take to ask, when another process has taken over.
const LAST_QUESTIONS: Duration = Duration::from_millis(100);

/// The largest configuration that is taken, as from a file.
const CONFIG_BYTES_MAX: usize = 16 << 20;

/// What the pages are about.
#[derive(Clone)]
pub struct Admin {
    /// The running process.
    pub process: Arc<Process>,
    /// Does what is ordered.
    pub operator: Operator,
    /// Set when the process no longer accepts connections: `/healthz` then says so.
    pub is_draining: Arc<AtomicBool>,
    /// Where changes of the configuration are asked for.
    pub requests: Requests,
    /// Processes that this one follows and that have connections to finish.
    pub(super) elders: Arc<Elders>,
}

/// Serves, and logs where it listens: at the socket that was made or passed for it, or at its address. A busy address is
/// tried again. `tried` hears of the end of the first attempt to listen, good or bad. Ends when the `door` is shut.
///
/// `inherited`: a socket that another process listened at, used if none was made and it has the address.
pub(super) async fn serve(
    admin: Admin,
    listen: SocketAddress,
    mut made: Option<Listener>,
    mut inherited: Option<OwnedFd>,
    door: Arc<Door>,
    tried: oneshot::Sender<()>,
) {
    let mut tried = Some(tried);
    let mut wait = RETRY_MIN;
    let mut in_trouble = false;
    let router = router(admin);
    loop {
        let bound = match made.take() {
            Some(made) => Bound::of_listener(made),
            None => Bound::new(&listen, inherited.take()).await,
        };
        in_trouble &= bound.is_err();
        if let Some(tried) = tried.take() {
            // Whoever started this may have stopped waiting.
            let _ = tried.send(());
        }
        let served = match bound {
            Ok(Bound::Tcp(listener)) => {
                door.open(listener.as_fd());
                let listener = Entrance::new(Bounded::new(listener, door.room()), &door);
                serve_until_shut(axum::serve(listener, router.clone()), &door, || {}).await
            }
            Ok(Bound::Unix(listener, mut file)) => {
                door.open(listener.as_fd());
                let listener = Entrance::new(Bounded::new(listener, door.room()), &door);
                // The file is removed at the end, but for another process that listens there.
                let leave = || {
                    if let Some(file) = file.take() {
                        file.leave();
                    }
                };
                serve_until_shut(axum::serve(listener, router.clone()), &door, leave).await
            }
            Err(error) => Err(error),
        };
        if matches!(served, Ok(Served::UntilShut)) {
            return;
        }
        if let Err(error) = served
            && !std::mem::replace(&mut in_trouble, true)
        {
            tracing::warn!(address = %listen, %error, "admin interface cannot listen; trying until it can");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

enum Served {
    UntilShut,
    /// Never, as axum has it.
    UntilEnd,
}

/// Serves until the door is shut; `leave` is called then.
async fn serve_until_shut(
    served: impl IntoFuture<Output = io::Result<()>>,
    door: &Door,
    leave: impl FnOnce(),
) -> io::Result<Served> {
    let mut served = pin!(served.into_future());
    tokio::select! {
        served = &mut served => return served.map(|()| Served::UntilEnd),
        () = door.until_shut() => leave(),
    }
    // Once it is dropped, whoever asks nothing right now is hung up on: who has just come has had no time to.
    let _ = timeout(LAST_QUESTIONS, served).await;
    Ok(Served::UntilShut)
}

/// Where the interface listens.
enum Bound {
    Tcp(TcpListener),
    /// The file is removed at the end, unless the socket was passed.
    Unix(UnixListener, Option<unix_socket::SocketFile>),
}

impl Bound {
    async fn new(listen: &SocketAddress, inherited: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(inherited) = inherited
            && let Ok(Some(bound)) = Self::inherit(listen, inherited)
        {
            return Ok(bound);
        }
        let (bound, address) = match listen {
            SocketAddress::Inet(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = listener.local_addr()?.into();
                (Self::Tcp(listener), address)
            }
            SocketAddress::Unix(Some(path)) => {
                let (listener, file) = unix_socket::bind(path)?;
                (Self::Unix(listener, Some(file)), listen.clone())
            }
            // The configuration has no such address.
            SocketAddress::Unix(None) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        tracing::info!(%address, "admin interface listens");
        Ok(bound)
    }

    fn of_listener(listener: Listener) -> io::Result<Self> {
        let address = listener.address().clone();
        if listener.is_held_elsewhere() {
            check_passed(&address)?;
        }
        let descriptor = OwnedFd::try_from(listener).map_err(|_| io::ErrorKind::InvalidInput)?;
        let bound = match address {
            SocketAddress::Inet(_) => Self::Tcp(TcpListener::from_std(descriptor.into())?),
            SocketAddress::Unix(_) => Self::Unix(UnixListener::from_std(descriptor.into())?, None),
        };
        tracing::info!(%address, "admin interface listens");
        Ok(bound)
    }

    /// The socket that another process listened at; none if that has another address.
    fn inherit(listen: &SocketAddress, inherited: OwnedFd) -> io::Result<Option<Self>> {
        Ok(match listen {
            SocketAddress::Inet(address) => {
                let listener = TcpListener::from_std(inherited.into())?;
                let is_same =
                    listener.local_addr().is_ok_and(|bound| bound == *address || address.port() == 0);
                is_same.then_some(Self::Tcp(listener))
            }
            SocketAddress::Unix(path) => {
                let listener = UnixListener::from_std(inherited.into())?;
                let bound = listener.local_addr()?;
                let name = bound.as_pathname();
                let path = path
                    .as_deref()
                    .filter(|path| name.is_some_and(|name| unix_socket::is_made_for(name, path)));
                let file = path.map(unix_socket::SocketFile::at).transpose()?;
                file.map(|file| Self::Unix(listener, Some(file)))
            }
        })
    }
}

/// Whether a passed socket keeps out whom one of our own would keep out.
fn check_passed(address: &SocketAddress) -> io::Result<()> {
    let refused = |reason| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    match address {
        SocketAddress::Inet(address) if !address.ip().is_loopback() => {
            refused("the socket that was passed for it is not on a loopback address")
        }
        SocketAddress::Unix(Some(path)) if fs::metadata(path)?.permissions().mode() & 0o002 != 0 => {
            refused("the socket that was passed for it lets every user in; give it SocketMode=0600")
        }
        SocketAddress::Inet(_) | SocketAddress::Unix(_) => Ok(()),
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/backend", get(backend::show).put(backend::order))
        .route("/connections", get(connections::list).delete(connections::kill))
        .route("/drain", get(drain::status).put(drain::begin).delete(drain::end))
        .route("/explain", get(explain::explain))
        .route("/reload", post(configuration::reload))
        .route("/config", put(configuration::put))
        .route("/plan", post(configuration::plan))
        .route("/versions", get(configuration::versions))
        .route("/rollback", post(configuration::rollback))
        .route("/upgrade", post(upgrade::begin))
        .layer(DefaultBodyLimit::max(CONFIG_BYTES_MAX))
        .layer(middleware::from_fn(refuse_web_pages))
        .with_state(admin)
}

/// A browser says which page a request comes from, unless it only reads: no page may give orders.
async fn refuse_web_pages(request: Request, next: Next) -> Response {
    if !request.method().is_safe() && request.headers().contains_key(header::ORIGIN) {
        return refusal(StatusCode::FORBIDDEN, "orders from web pages are refused");
    }
    next.run(request).await
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": error }))).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::Followed => StatusCode::CONFLICT,
        };
        refusal(status, &self.to_string())
    }
}

/// 200 while connections are accepted, 503 once they are not.
async fn healthz(State(admin): State<Admin>) -> Response {
    if admin.is_draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else {
        "ok\n".into_response()
    }
}

async fn status(State(admin): State<Admin>) -> Response {
    axum::Json(admin.process.status()).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let text = admin.process.metrics_page();
    ([(header::CONTENT_TYPE, page::CONTENT_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests;
