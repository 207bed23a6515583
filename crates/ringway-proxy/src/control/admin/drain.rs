//! `/drain`: PUT begins a drain, DELETE ends it, GET tells how it goes.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::connections::{answer, query_of};
use crate::control::drain::DrainQuery;

type Wanted = Result<Query<DrainQuery>, QueryRejection>;

pub(super) async fn status(State(admin): State<Admin>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(query) => answer(admin.operator.drain_status(&query)),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn begin(State(admin): State<Admin>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(query) => answer(admin.operator.drain(&query).await),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn end(State(admin): State<Admin>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(query) => answer(admin.operator.undrain(&query).await),
        Err(refusal) => refusal.into_response(),
    }
}
