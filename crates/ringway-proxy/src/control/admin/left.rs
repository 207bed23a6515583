//! What an old process answers after another one has taken the admin interface over: which connections are left in it, and
//! why. Only the process that serves asks, on a socket that nobody else can find.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::UnixListener;

use super::bounded::{self, Bounded};
use super::connections::{Wanted, answer, query_of};
use crate::control::operator::Operator;
use crate::control::upgrade::Left;

#[derive(Clone)]
struct Rest {
    operator: Operator,
    left: Arc<Left>,
}

/// Serves until the process ends; then the socket is removed.
pub(in crate::control) async fn serve(left: Left, operator: Operator) {
    let rest = Rest { operator, left: Arc::new(left) };
    let listener = rest.left.listener().and_then(UnixListener::from_std);
    let served = match listener {
        Ok(listener) => {
            let pages = Router::new().route("/connections", get(list).delete(kill)).with_state(rest);
            axum::serve(Bounded::new(listener, bounded::room()), pages).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::warn!(%error, "nobody hears which connections are left here");
    }
}

async fn list(State(rest): State<Rest>, wanted: Wanted) -> Response {
    let query = match query_of(wanted) {
        Ok(query) => query,
        Err(refusal) => return refusal.into_response(),
    };
    answer(rest.operator.list(&query).await.map(|mut list| {
        rest.left.explain(&mut list);
        list
    }))
}

async fn kill(State(rest): State<Rest>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(query) => answer(rest.operator.kill(&query).await),
        Err(refusal) => refusal.into_response(),
    }
}
