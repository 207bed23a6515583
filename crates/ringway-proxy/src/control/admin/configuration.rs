//! `/reload`, `/config`, `/plan`, `/versions`, `/rollback`: other configurations, what they would change, and the way
//! back.

use std::path::PathBuf;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::connections::query_of;
use super::{Admin, refusal};
use crate::config::{Format, Fragment};
use crate::control::reload::{Document, Outcome, Refusal, RefusalPage, Wanted};
use crate::snapshot::Origin;

/// The query of `/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackQuery {
    /// The version to go back to; the one before the running one if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// The query of `/plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanQuery {
    /// What faults call the configuration that is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The body of `/plan` for a configuration that includes files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesPage {
    /// The language of the main file.
    pub format: Format,
    /// Its text.
    pub text: String,
    /// All files that its `include` stands for.
    pub fragments: Vec<Fragment>,
}

/// The media type of a [`FilesPage`].
pub const FILES: &str = "application/vnd.ringway.files+json";

/// POST: reads the file again and applies it.
pub(super) async fn reload(State(admin): State<Admin>) -> Response {
    answer(admin.requests.apply(Wanted::File, Origin::Admin).await)
}

/// PUT: applies the configuration that is sent.
pub(super) async fn put(State(admin): State<Admin>, headers: HeaderMap, text: String) -> Response {
    let Some(format) = format_of(&headers) else { return unknown_format() };
    let document = Document { text, format, name: None, fragments: None };
    answer(admin.requests.apply(Wanted::Document(document), Origin::Put).await)
}

/// POST: what would change with the configuration that is sent, or with the file as it is now if none is.
pub(super) async fn plan(
    State(admin): State<Admin>,
    query: Result<Query<PlanQuery>, QueryRejection>,
    headers: HeaderMap,
    text: String,
) -> Response {
    let query = match query_of(query) {
        Ok(query) => query,
        Err(refusal) => return refusal.into_response(),
    };
    if text.is_empty() {
        return answer(admin.requests.plan(Wanted::File).await);
    }
    let name = query.name.map(PathBuf::from);
    let document = if media_type(&headers) == Some(FILES) {
        match serde_json::from_str::<FilesPage>(&text) {
            Ok(FilesPage { text, format, fragments }) => {
                Document { text, format, name, fragments: Some(fragments) }
            }
            Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    } else {
        let Some(format) = format_of(&headers) else { return unknown_format() };
        Document { text, format, name, fragments: None }
    };
    answer(admin.requests.plan(Wanted::Document(document)).await)
}

/// GET: the versions so far.
pub(super) async fn versions(State(admin): State<Admin>) -> Response {
    match admin.requests.versions().await {
        Ok(page) => axum::Json(page).into_response(),
        Err(refusal) => answer(Err(refusal)),
    }
}

/// POST: applies the configuration of an earlier version.
pub(super) async fn rollback(
    State(admin): State<Admin>,
    query: Result<Query<RollbackQuery>, QueryRejection>,
) -> Response {
    match query_of(query) {
        // The origin names the version once it is found.
        Ok(query) => answer(admin.requests.apply(Wanted::Version(query.version), Origin::Admin).await),
        Err(refusal) => refusal.into_response(),
    }
}

/// 200 with what changed; 422 with every fault; 404 for a version that is not kept; 409 where nothing can be changed.
fn answer(result: Result<Outcome, Refusal>) -> Response {
    let refusal = match result {
        Ok(outcome) => return axum::Json(outcome).into_response(),
        Err(refusal) => refusal,
    };
    let status = match refusal {
        Refusal::Faults(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Unknown(_) => StatusCode::NOT_FOUND,
        Refusal::Impossible(_) => StatusCode::CONFLICT,
    };
    (status, axum::Json(RefusalPage::from(&refusal))).into_response()
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

fn format_of(headers: &HeaderMap) -> Option<Format> {
    match media_type(headers)? {
        "application/toml" | "text/toml" => Some(Format::Toml),
        "application/yaml" | "text/yaml" | "application/x-yaml" => Some(Format::Yaml),
        "application/json" => Some(Format::Json),
        _ => None,
    }
}

fn unknown_format() -> Response {
    let error = "the Content-Type says the language: application/toml, application/yaml or application/json";
    refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
}
