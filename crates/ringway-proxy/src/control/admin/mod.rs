//! The admin interface: `/healthz`, `/status` and `/metrics` over HTTP on a loopback address or a Unix socket.
//!
//! Whoever may open a loopback connection, or the socket of mode 0600, may read everything here; nothing can be
//! changed. An address that is busy is tried again until it is free: it never keeps the proxy from serving.

mod unix_socket;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ringway::SocketAddress;
use tokio::net::TcpListener;

use super::status::Process;
use crate::metrics::page;

/// Between attempts to bind a busy address, at first; doubles up to ten seconds.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What the pages are about.
#[derive(Clone)]
pub struct Admin {
    /// The running process.
    pub process: Arc<Process>,
    /// Set when the process no longer accepts connections: `/healthz` then says so.
    pub is_draining: Arc<AtomicBool>,
}

/// Serves until it is dropped. Logs where it listens; a busy address is tried again.
pub async fn serve(admin: Admin, listen: SocketAddress) {
    let mut wait = RETRY_MIN;
    loop {
        match serve_once(admin.clone(), &listen).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(address = %listen, %error, "admin interface cannot listen; trying again")
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

async fn serve_once(admin: Admin, listen: &SocketAddress) -> io::Result<()> {
    let router = router(admin);
    match listen {
        SocketAddress::Inet(address) => {
            let listener = TcpListener::bind(address).await?;
            tracing::info!(address = %listener.local_addr()?, "admin interface listens");
            axum::serve(listener, router).await
        }
        SocketAddress::Unix(Some(path)) => {
            let (listener, _removed_at_the_end) = unix_socket::bind(path)?;
            tracing::info!(address = %listen, "admin interface listens");
            axum::serve(listener, router).await
        }
        // The configuration has no such address.
        SocketAddress::Unix(None) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(admin)
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
    let text = page::write_page(&admin.process.metrics, &admin.process.samples());
    ([(header::CONTENT_TYPE, page::CONTENT_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests;
