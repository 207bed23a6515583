//! `/upgrade`: POST has another process take over, and tells how that goes: a line of JSON for each step.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::connections::query_of;
use super::{Admin, Refusal, refusal};
use crate::config;
use crate::control::upgrade::{JournalLine, Order, UpgradeQuery};

/// The media type of the answer.
const LINES: &str = "application/x-ndjson";

pub(super) async fn begin(
    State(admin): State<Admin>,
    query: Result<Query<UpgradeQuery>, QueryRejection>,
) -> Response {
    let order = match query_of(query).and_then(order_of) {
        Ok(order) => order,
        Err(refusal) => return refusal.into_response(),
    };
    let mut journal = admin.requests.upgrade(order);
    match journal.recv().await {
        Some(JournalLine::Refused { error }) => refusal(StatusCode::CONFLICT, &error),
        Some(first) => {
            let lines = Lines { first: Some(first), rest: journal };
            ([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response()
        }
        None => refusal(StatusCode::CONFLICT, "the process is ending"),
    }
}

fn order_of(query: UpgradeQuery) -> Result<Order, Refusal> {
    let UpgradeQuery { binary, timeout } = query;
    if let Some(binary) = binary.as_ref().filter(|binary| !binary.is_absolute()) {
        let shown = binary.display();
        return Err(Refusal::Wrong(format!("binary: \"{shown}\"; expected an absolute path")));
    }
    let timeout = timeout.map(|text| {
        config::duration(&text)
            .ok_or_else(|| Refusal::Wrong(format!("timeout: \"{text}\"; expected a duration as 10s")))
    });
    Ok(Order { binary, timeout: timeout.transpose()? })
}

/// What is told, as it is told.
struct Lines {
    first: Option<JournalLine>,
    rest: UnboundedReceiver<JournalLine>,
}

impl Stream for Lines {
    type Item = Result<String, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.rest.poll_recv(context),
        };
        next.map(|line| {
            // Lines are numbers and words.
            line.map(|line| Ok(format!("{}\n", serde_json::to_string(&line).unwrap_or_default())))
        })
    }
}
