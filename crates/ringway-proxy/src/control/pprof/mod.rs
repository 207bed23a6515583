//! `--pprof`: what the processor is busy with, over HTTP, as a profile and as a flame graph.
//!
//! The kernel interrupts whichever thread is running, by SIGPROF, some hundred times in a second of processor time, and
//! only while somebody profiles. A read or a wait that such a signal ends is begun anew by the engines.

mod flame;
mod profile;
mod stacks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::admin::bounded::{self, Bounded};
use stacks::Stacks;

/// How long is profiled when nobody says, as tools that ask for profiles expect.
const SECONDS: u64 = 30;
/// Shorter than the life of a connection.
const SECONDS_MAX: u64 = 240;
/// Samples for each second of processor time: a prime number, so that nothing periodic keeps pace with it.
const FREQUENCY: u32 = 97;
const FREQUENCY_MAX: u32 = 997;

/// A busy address is tried so often, with pauses: for five seconds.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

const INDEX: &str = include_str!("index.html");

/// What can be asked for behind the `?`.
#[derive(Deserialize)]
struct Wanted {
    seconds: Option<u64>,
    frequency: Option<u32>,
}

/// One profile at a time: there is one timer for the process.
type Turn = Arc<Semaphore>;

/// Serves profiles until it is dropped, and logs where.
pub(super) async fn serve(listen: SocketAddr) {
    let mut attempts = ATTEMPTS;
    let listener = loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => break listener,
            // The process that this one follows may still be there.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 1 => attempts -= 1,
            Err(error) => {
                tracing::error!(address = %listen, %error, "profiles cannot be served: --pprof has no effect");
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    };
    if !listen.ip().is_loopback() {
        tracing::warn!(address = %listen, "profiles are open to the network, as --pprof says");
    }
    let address = listener.local_addr().unwrap_or(listen);
    tracing::info!(%address, "profiles at http://{address}/debug/pprof/");
    let router = Router::new()
        .route("/debug/pprof/", get(|| async { Html(INDEX) }))
        .route("/debug/pprof/profile", get(profile))
        .route("/debug/pprof/flamegraph", get(flamegraph))
        .with_state(Turn::new(Semaphore::new(1)));
    if let Err(error) = axum::serve(Bounded::new(listener, bounded::room()), router).await {
        tracing::error!(%error, "profiles are no longer served");
    }
}

async fn profile(State(turn): State<Turn>, Query(wanted): Query<Wanted>) -> Response {
    respond(&turn, &wanted, |stacks| {
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream"),
            (header::CONTENT_DISPOSITION, "attachment; filename=\"profile.pb.gz\""),
        ];
        Ok((headers, profile::gzipped(stacks)?).into_response())
    })
    .await
}

async fn flamegraph(State(turn): State<Turn>, Query(wanted): Query<Wanted>) -> Response {
    respond(&turn, &wanted, |stacks| {
        Ok(([(header::CONTENT_TYPE, "image/svg+xml")], flame::svg(stacks)).into_response())
    })
    .await
}

/// Profiles for as long as is wanted and answers with what `write` makes of it.
async fn respond(
    turn: &Turn,
    wanted: &Wanted,
    write: impl FnOnce(&Stacks) -> std::io::Result<Response> + Send + 'static,
) -> Response {
    let seconds = wanted.seconds.unwrap_or(SECONDS);
    let frequency = wanted.frequency.unwrap_or(FREQUENCY);
    if !(1..=SECONDS_MAX).contains(&seconds) || !(1..=FREQUENCY_MAX).contains(&frequency) {
        let text = format!("seconds: 1 to {SECONDS_MAX}; frequency: 1 to {FREQUENCY_MAX} in a second\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let Ok(_turn) = turn.try_acquire() else {
        return (StatusCode::CONFLICT, "a profile is being taken; ask again when it is done\n")
            .into_response();
    };
    match stacks::take(Duration::from_secs(seconds), frequency, write).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "no profile");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("no profile: {error}\n")).into_response()
        }
    }
}
