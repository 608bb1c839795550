//! Drafting a campaign. It guarantees that its template, its files and its purpose are looked at before anything is
//! written, and that a repeat gives the first answer whatever became of them.

use assent_contracts::api::campaigns::{Audience, CampaignView};
use assent_contracts::api::consent::{VerdictsRequest, VerdictsResponse};
use assent_contracts::campaigns::CampaignDrafted;
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::is_code;
use super::read::look;
use crate::api::messages::{check_files, store, template_language};
use crate::campaigns::{self, Draft};
use crate::domain::content::{ButtonValue, Card, Header, Parameter, Values};
use crate::state::Messaging;
use crate::stored::Stored;

/// A campaign to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftRequest {
    /// Its name, a code of yours: 1 to 64 of a-z, 0-9, `_` and `-`.
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,63}$", example = "spring-2027")]
    pub name: String,
    /// For which purpose.
    #[schema(example = "marketing", min_length = 1, max_length = 512)]
    pub purpose: String,
    /// On which channel.
    #[schema(pattern = "^whatsapp$", example = "whatsapp")]
    pub channel: String,
    /// Which template.
    #[schema(example = "spring_offer")]
    pub template: String,
    /// In which of its languages; without: its only one, else `en`.
    #[serde(default)]
    pub language: Option<String>,
    /// Values of the template's body, in order or by name. They are the same for everybody, and stored as
    /// they are: nothing of a person belongs here.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub parameters: Vec<Parameter>,
    /// Value of the template's header.
    #[serde(default)]
    pub header: Option<Header>,
    /// Values of the template's buttons.
    #[serde(default)]
    pub buttons: Vec<ButtonValue>,
    /// Values of a carousel's cards.
    #[serde(default)]
    pub cards: Vec<Card>,
    /// Who it is for.
    #[serde(default)]
    pub audience: Audience,
}

impl DraftRequest {
    fn values(&self) -> Values {
        Values {
            parameters: self.parameters.clone(),
            header: self.header.clone(),
            buttons: self.buttons.clone(),
            cards: self.cards.clone(),
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let invalid = |detail: String| Problem::new(Code::ValidationFailed).detail(detail);
        if !is_code(&self.name) {
            return Err(invalid(
                "name: 1 to 64 of a-z, 0-9, _ and -, such as spring-2027".to_owned(),
            ));
        }
        if self.channel != "whatsapp" {
            return Err(Problem::new(Code::ChannelUnknown).detail("the channel is whatsapp"));
        }
        let region =
            |text: &String| text.len() == 2 && text.bytes().all(|it| it.is_ascii_uppercase());
        if self.audience.regions.len() > 50 || !self.audience.regions.iter().all(region) {
            return Err(invalid(
                "regions: at most 50, of two capital letters, such as FR".to_owned(),
            ));
        }
        self.values().check().map_err(invalid)
    }
}

/// Draft a campaign.
///
/// Its people are taken from the read models after that: `gathering` until they are. Whoever drafts learns
/// how many they are, and needs `query:read` like whoever asks the read models.
///
/// # Errors
/// `validation_failed`, `purpose_unknown`, `channel_unknown`, `template_unknown`, `template_unavailable`,
/// `template_mismatch`, `media_unknown`, `idempotency_key_reused`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/campaigns", tag = "campaigns", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = DraftRequest,
    responses(
        (status = 201, description = "Drafted", body = CampaignView),
        (status = 404, description = "purpose_unknown, template_unknown, media_unknown"),
        (status = 409, description = "template_unavailable"),
        (status = 422, description = "validation_failed, channel_unknown, template_mismatch")
    )
)]
pub async fn draft(
    State(messaging): State<Messaging>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    JsonBytes(request, body): JsonBytes<DraftRequest>,
) -> Result<(StatusCode, Json<CampaignView>), Problem> {
    caller.require("messages:write")?;
    caller.require("query:read")?;
    request.check()?;
    let idempotency = key.map(|key| {
        let scope = format!("{} POST /v1/campaigns", caller.name());
        messaging.store.idempotency(&scope, &key, &body)
    });
    if let Some(key) = idempotency {
        // Templates and purposes change; what was answered doesn't.
        let mut session = messaging.store.begin().await.map_err(store)?;
        let first = session.first_answer(key).await.map_err(store)?;
        session.rollback().await.map_err(store)?;
        if let Some(first) = first {
            return Ok((StatusCode::CREATED, look(&messaging, first.stream).await?));
        }
    }
    let values = request.values();
    let language = request.language.as_deref();
    let language =
        template_language(messaging.pool(), &request.template, language, &values).await?;
    check_files(&messaging, None, &Stored::Values(values.clone())).await?;
    let DraftRequest { name, purpose, channel, template, audience, .. } = request;
    pursued(&messaging, &purpose, &channel).await?;
    let drafted = CampaignDrafted {
        name,
        purpose,
        channel,
        template,
        language,
        drafted_by: caller.name().to_owned(),
        at: messaging.clock.now(),
    };
    let service = messaging.clone();
    let id = assent_eventstore::to_the_end(async move {
        campaigns::draft(&service, Draft { drafted, values, audience }, idempotency).await
    })
    .await
    .map_err(store)?;
    Ok((StatusCode::CREATED, look(&messaging, id).await?))
}

/// Whether the purpose is pursued on the channel: the gate knows.
async fn pursued(messaging: &Messaging, purpose: &str, channel: &str) -> Result<(), Problem> {
    let (purpose, channel) = (purpose.to_owned(), channel.to_owned());
    let nobody = VerdictsRequest { purpose, channel, asks: Vec::new() };
    let answer: Result<VerdictsResponse, _> =
        messaging.consent.post("/v1/verdicts", &nobody, None).await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.code() {
            Some(code @ (Code::PurposeUnknown | Code::ChannelUnknown)) => code.into(),
            _ => error.into(),
        }),
    }
}
