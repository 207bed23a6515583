//! `/reload`: POST has the configuration read again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Admin;
use crate::control::reload::{Refusal, RefusalPage};
use crate::snapshot::Origin;

/// 200 with what changed; 422 with every fault; 409 where nothing can be changed.
pub(super) async fn reload(State(admin): State<Admin>) -> Response {
    match admin.requests.reload(Origin::Admin).await {
        Ok(applied) => axum::Json(applied).into_response(),
        Err(refusal) => {
            let status = match refusal {
                Refusal::Faults(_) => StatusCode::UNPROCESSABLE_ENTITY,
                Refusal::Impossible(_) => StatusCode::CONFLICT,
            };
            (status, axum::Json(RefusalPage::from(&refusal))).into_response()
        }
    }
}
