//! `GET /v1/requests/{request_id}/certificate`, `POST /v1/tracking/certificate` and `GET /v1/public-key`: what was
//! signed, for operators and for the person herself, and the key to hand out beforehand by a road of its own.

use assent_http::{Caller, Code, Json, Path, Problem};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::tracking::{Guess, guessed};
use super::{App, store_problem};
use crate::certificate;

#[utoipa::path(
    get, path = "/v1/requests/{request_id}/certificate", tag = "certificates",
    params(("request_id" = Uuid, Path, description = "The request")),
    responses(
        (status = 200, description = "A compact JWS; of a request that was answered by another erasure of the same person, that one's", body = String, content_type = "application/jose"),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "certificate_not_ready"),
    ),
    security(("bearer" = []))
)]
/// The certificate of a completed request.
pub(super) async fn certificate(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
) -> Result<Response, Problem> {
    caller.require("erasure:read")?;
    let jws = find(&app, request_id).await?.ok_or(Code::CertificateNotReady)?;
    Ok(([(header::CONTENT_TYPE, "application/jose")], jws).into_response())
}

#[utoipa::path(
    post, path = "/v1/tracking/certificate", tag = "requests",
    request_body = Guess,
    responses(
        (status = 200, description = "A zip: certificate.jws, and what it says as a page in each language", body = Vec<u8>, content_type = "application/zip"),
        (status = 404, description = "request_unknown: no such request, or not its secret"),
        (status = 409, description = "certificate_not_ready"),
    ),
    security(("bearer" = []))
)]
/// The certificate of an erasure that is complete, for whoever has the request's reference and secret.
pub(super) async fn collect(
    State(app): State<App>,
    caller: Caller,
    Json(guess): Json<Guess>,
) -> Result<Response, Problem> {
    caller.require("erasure:track")?;
    let request_id = guessed(&app, &guess).await?;
    let jws = find(&app, request_id).await?.ok_or(Code::CertificateNotReady)?;
    let packed = certificate::pack(&jws).map_err(Problem::internal)?;
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"certificate.zip\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, packed).into_response())
}

/// The certificate that answers a request; none: there is none yet, or never.
pub(super) async fn find(app: &App, request_id: Uuid) -> Result<Option<String>, Problem> {
    const CERTIFICATE: &str = "
        SELECT jws FROM (
            SELECT c.jws FROM requests r LEFT JOIN certificates c USING (request_id)
            WHERE r.request_id = $1
            UNION ALL
            SELECT certificate FROM purpose_erasures WHERE request_id = $1
            UNION ALL
            SELECT c.jws FROM subject_requests s
            LEFT JOIN requests r
                ON r.subject_id = s.subject_id AND s.kind = 'erasure' AND s.status = 'answered'
                   AND s.purpose IS NULL
            LEFT JOIN certificates c ON c.request_id = r.request_id
            WHERE s.request_id = $1) found
        ORDER BY jws NULLS LAST LIMIT 1";
    let found: Option<Option<String>> = sqlx::query_scalar(CERTIFICATE)
        .bind(request_id)
        .fetch_optional(app.sagas.store.pool())
        .await
        .map_err(|error| store_problem(error.into()))?;
    Ok(found.ok_or(Code::RequestUnknown)?)
}

#[utoipa::path(
    get, path = "/v1/public-key", tag = "certificates",
    responses((status = 200, description = "SubjectPublicKeyInfo, PEM", body = String, content_type = "application/x-pem-file")),
    security(("bearer" = []))
)]
/// The public key of certificates.
pub(super) async fn public_key(
    State(app): State<App>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.require("erasure:read")?;
    let pem = app.public_key.to_string();
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response())
}
