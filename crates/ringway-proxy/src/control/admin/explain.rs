//! `/explain`: where a client would go.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::connections::{answer, query_of};
use crate::control::explain::ExplainQuery;

type Wanted = Result<Query<ExplainQuery>, QueryRejection>;

pub(super) async fn explain(State(admin): State<Admin>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(query) => answer(admin.operator.explain(&query)),
        Err(refusal) => refusal.into_response(),
    }
}
