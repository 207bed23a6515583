//! `/backend`: GET shows one, PUT changes it at run time.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::connections::{answer, query_of};
use crate::control::operator::BackendOrder;

type Wanted = Result<Query<BackendOrder>, QueryRejection>;

pub(super) async fn show(State(admin): State<Admin>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(order) => answer(admin.operator.backend(&order.app, &order.backend)),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn order(State(admin): State<Admin>, wanted: Wanted) -> Response {
    match query_of(wanted) {
        Ok(order) => answer(admin.operator.order_backend(&order).await),
        Err(refusal) => refusal.into_response(),
    }
}
