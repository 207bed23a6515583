//! `/connections`: GET lists connections, DELETE ends them; with `generation` those that finish in old processes.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};

use super::{Admin, Refusal};
use crate::control::operator::ConnectionsQuery;

pub(super) type Wanted = Result<Query<ConnectionsQuery>, QueryRejection>;

pub(super) async fn list(State(admin): State<Admin>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(query) if query.generation.is_some() => answer(admin.elders.list(&query).await),
        Ok(query) => answer(admin.operator.list(&query).await),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn kill(State(admin): State<Admin>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(query) if query.generation.is_some() => answer(admin.elders.kill(&query).await),
        Ok(query) => answer(admin.operator.kill(&query).await),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) fn query_of<Q>(wanted: Result<Query<Q>, QueryRejection>) -> Result<Q, Refusal> {
    wanted.map(|Query(query)| query).map_err(|rejection| Refusal::Wrong(rejection.body_text()))
}

pub(super) fn answer<T: serde::Serialize>(result: Result<T, Refusal>) -> Response {
    match result {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
