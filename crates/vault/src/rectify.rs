//! `POST /v1/subjects/{subject_id}/rectify`: what is held of a person is wrong, or missing, and she has it put right
//! (GDPR Article 16). It guarantees that row, index and events change together, that a number that is somebody
//! else's or may not come in is refused, that what stood against her old number stands against her on, and
//! that an answer means settled: the gate knows her new number. That she asks herself is for the caller to know.

use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{RectifyRequest, RectifyResponse};
use assent_contracts::vault::{SUBJECT_RECTIFIED, SubjectRectified};
use assent_eventstore::{Stream, to_the_end};
use assent_http::{Caller, Code, Json, Path, Problem};
use assent_sealing::{StoredKey, seal};
use axum::extract::State;
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::access::Access;
use crate::app::{App, EMAIL, NAME, PARENT_USER_ID, PHONE, USER_ID, binding};
use crate::contact::{read_email, read_name};
use crate::domain::Command;
use crate::error::VaultError;
use crate::forget::{others, unlink};
use crate::identities::{Links, append, link_at_the_gate};
use crate::lookup::require_open;
use crate::people::{self, Corrections, SealedPerson};
use crate::resolve::{open_field, recorded};
use crate::{phone, renew};

/// Why her fields are opened, in access records.
const REASON: &str = "rectification";
/// How often it is tried while others write about the same people.
const ATTEMPTS: usize = 8;

/// Put right what is held of a person.
///
/// Needs `subjects:write` and `gate:write`. It answers when settled; its repeat changes nothing and gives the same
/// answer. With her number her user ids, and who was one with her, are forgotten: they were the old number's.
#[utoipa::path(
    post, path = "/v1/subjects/{subject_id}/rectify", tag = "subjects", security(("bearer" = [])),
    params(("subject_id" = Uuid, Path, description = "The person")),
    request_body = RectifyRequest,
    responses((status = 200, body = RectifyResponse), (status = 404, description = "subject_unknown"),
        (status = 409, description = "request_state_conflict: reason number_taken or number_barred"),
        (status = 410, description = "subject_erased"), (status = 422, description = "phone_invalid, validation_failed"))
)]
pub(crate) async fn rectify(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(subject): Path<SubjectId>,
    Json(request): Json<RectifyRequest>,
) -> Result<Json<RectifyResponse>, Problem> {
    caller.require("subjects:write")?;
    caller.require("gate:write")?;
    let wanted = Wanted::read(&app, request)?;
    require_open(&app, subject).await?;
    let done = to_the_end(async move {
        for _ in 0..ATTEMPTS {
            match correct(&app, caller.name(), subject, &wanted).await? {
                Outcome::Again => {}
                Outcome::Done(fields) => {
                    wanted.link(&app, subject).await?;
                    return Ok(Ok(fields));
                }
                Outcome::Refused(problem) => return Ok(Err(problem)),
            }
        }
        Err(VaultError::Contended)
    })
    .await?;
    Ok(Json(RectifyResponse { fields: done? }))
}

/// A number that she has instead.
struct Number {
    text: Zeroizing<String>,
    region: Option<String>,
    tokens: Vec<AddressToken>,
    /// By all keys: by what somebody may be known.
    looked_for: Vec<AddressToken>,
}

/// What is to be held instead; a text's inner `None`: nothing. No `Debug`: it holds plaintext.
struct Wanted {
    request_id: Uuid,
    phone: Option<Number>,
    texts: Vec<(&'static str, Option<Zeroizing<String>>)>,
}

enum Outcome {
    /// Others wrote meanwhile.
    Again,
    /// Which fields have another content by this request.
    Done(Vec<String>),
    Refused(Problem),
}

impl Wanted {
    fn read(app: &App, request: RectifyRequest) -> Result<Self, Problem> {
        let number = |text: String| {
            let phone = phone::parse(&Zeroizing::new(text), request.country.as_deref())
                .map_err(|invalid| Problem::new(Code::PhoneInvalid).detail(invalid.reason()))?;
            let tokens = app.addresses.tokens(&phone.e164);
            let looked_for = app.addresses.all(&phone.e164);
            Ok::<_, Problem>(Number { text: phone.e164, region: phone.region, tokens, looked_for })
        };
        let mut texts = Vec::new();
        type Read =
            fn(Option<String>) -> Result<Option<Zeroizing<String>>, crate::contact::Rejected>;
        let readers: [(&'static str, Option<String>, Read); 2] =
            [(NAME, request.name, read_name), (EMAIL, request.email, read_email)];
        for (field, text, read) in readers {
            if text.is_some() {
                let text = read(text)
                    .map_err(|it| Problem::new(Code::ValidationFailed).detail(it.reason))?;
                texts.push((field, text));
            }
        }
        let phone = request.phone.map(number).transpose()?;
        if phone.is_none() && texts.is_empty() {
            return Err(Problem::new(Code::ValidationFailed)
                .detail("say what is to be held instead: phone, name or email"));
        }
        Ok(Self { request_id: request.request_id, phone, texts })
    }

    /// Repeated with each answer: an earlier one may have been lost before the gate knew.
    async fn link(&self, app: &App, subject: Uuid) -> Result<(), VaultError> {
        let Some(number) = &self.phone else { return Ok(()) };
        let links = Links::from([(subject, number.tokens.iter().copied().collect())]);
        link_at_the_gate(app, links).await
    }
}

/// One try.
async fn correct(
    app: &App,
    caller: &str,
    subject: Uuid,
    wanted: &Wanted,
) -> Result<Outcome, VaultError> {
    let access = Access { caller, reason: REASON, field: PHONE };
    let Some((seen, key)) =
        recorded(app, access, &[NAME, EMAIL], &[subject]).await?.pop().flatten()
    else {
        return Ok(Outcome::Refused(Code::SubjectUnknown.into()));
    };
    let changes = Changes::of(app, &seen, &key, wanted)?;
    if let Some(number) = changes.number
        && let Some(reason) = stands_against(app, subject, number).await?
    {
        return Ok(Outcome::Refused(refused(reason)));
    }
    // What stands against the number by its former tokens stands by those that she gets.
    let former = changes.number.and_then(|number| app.former(&number.text));
    renew::tell_gate(app, former.into_iter().collect(), true).await?;
    let linked = others(app.pool(), subject).await?;

    let mut session = app.store.begin().await?;
    let mut locked: Vec<Uuid> = linked.iter().copied().chain([subject]).collect();
    locked.sort_unstable();
    let stream = session.lock(&locked).await?.remove(&subject).unwrap_or_default();
    let person = people::reachable(&mut *session.conn(), &[subject]).await?.remove(&subject);
    let again = others(&mut *session.conn(), subject).await?;
    if person.is_none_or(|person| !is_same(&person, &seen)) || again != linked {
        session.rollback().await?;
        return Ok(Outcome::Again);
    }
    let mut fields = by_this_request(&stream, wanted.request_id)?;
    if changes.is_none() {
        session.rollback().await?;
        return Ok(Outcome::Done(fields));
    }
    if !people::correct(session.conn(), subject, &changes.corrections).await? {
        session.rollback().await?;
        return Ok(Outcome::Again);
    }
    if let Some(number) = changes.number {
        unlink(session.conn(), subject).await?;
        let open = people::reachable(&mut *session.conn(), &linked).await?;
        let unlinked =
            |addresses, fields, unlinked| Command::Forget { addresses, fields, unlinked };
        let (gone, new) = moved(&seen.tokens, &number.tokens);
        let were =
            [PHONE, USER_ID, PARENT_USER_ID].into_iter().filter(|it| seen.sealed(it).is_some());
        let were: Vec<String> = were.map(str::to_owned).collect();
        append(app, &mut session, subject, unlinked(gone, were, linked)).await?;
        let (region, held) = (number.region.clone(), vec![PHONE.to_owned()]);
        let identify = Command::Identify { addresses: new, region, fields: held };
        append(app, &mut session, subject, identify).await?;
        let mut open: Vec<Uuid> = open.into_keys().collect();
        open.sort_unstable();
        for other in open {
            append(app, &mut session, other, unlinked(vec![], vec![], vec![subject])).await?;
        }
    }
    let rectify = Command::Rectify {
        request_id: wanted.request_id,
        fields: changes.fields.clone(),
        removed: changes.removed,
    };
    append(app, &mut session, subject, rectify).await?;
    session.commit().await?;
    fields.extend(changes.fields);
    fields.sort_unstable();
    fields.dedup();
    Ok(Outcome::Done(fields))
}

/// What is other than it should be.
struct Changes<'a> {
    fields: Vec<String>,
    removed: Vec<String>,
    number: Option<&'a Number>,
    corrections: Corrections,
}

impl<'a> Changes<'a> {
    fn of(
        app: &App,
        seen: &SealedPerson,
        key: &StoredKey,
        wanted: &'a Wanted,
    ) -> Result<Self, VaultError> {
        let mut changes = Self {
            fields: Vec::new(),
            removed: Vec::new(),
            number: None,
            corrections: Corrections::default(),
        };
        let sealed = |field, text: &str| {
            let aad = binding(seen.subject, field, seen.key_version);
            seal(&key.key, app.ids.as_ref(), aad, text.as_bytes())
        };
        let holds = |field| open_field(seen, key, field, seen.sealed(field));
        if let Some(number) = &wanted.phone
            && holds(PHONE)?.is_none_or(|held| *held != *number.text)
        {
            let phone = sealed(PHONE, &number.text);
            changes.corrections.phone = Some((phone, number.region.clone(), number.tokens.clone()));
            changes.number = Some(number);
            changes.fields.push(PHONE.to_owned());
        }
        for (field, text) in &wanted.texts {
            let field = *field;
            if holds(field)?.as_deref() == text.as_deref() {
                continue;
            }
            let place = match field {
                NAME => &mut changes.corrections.name,
                _ => &mut changes.corrections.email,
            };
            *place = Some(text.as_ref().map(|text| sealed(field, text)));
            changes.fields.push(field.to_owned());
            if text.is_none() {
                changes.removed.push(field.to_owned());
            }
        }
        Ok(changes)
    }

    fn is_none(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Why a number can't be hers; none: it can.
async fn stands_against(
    app: &App,
    subject: Uuid,
    number: &Number,
) -> Result<Option<&'static str>, VaultError> {
    let known = people::known(app.pool(), &number.looked_for).await?;
    if known.values().any(|known| known.subject != subject) {
        return Ok(Some("number_taken"));
    }
    let marks = people::marks(app.fingerprints.all(&number.text), &number.looked_for);
    let barred = people::barred(app.pool(), &marks, Timestamp::UNIX_EPOCH).await?;
    Ok((!barred.is_empty()).then_some("number_barred"))
}

fn refused(reason: &'static str) -> Problem {
    let detail = match reason {
        "number_taken" => "somebody else is known by this number",
        _ => "this number may not come in: it was suppressed, or whoever had it was erased",
    };
    Problem::new(Code::RequestStateConflict).detail(detail).with("reason", reason)
}

/// Which tokens go, and which are new.
fn moved(old: &[AddressToken], new: &[AddressToken]) -> (Vec<AddressToken>, Vec<AddressToken>) {
    let without = |these: &[AddressToken], those: &[AddressToken]| {
        these.iter().filter(|token| !those.contains(token)).copied().collect()
    };
    (without(old, new), without(new, old))
}

fn is_same(one: &SealedPerson, other: &SealedPerson) -> bool {
    let fields = [PHONE, USER_ID, PARENT_USER_ID, NAME, EMAIL];
    one.tokens == other.tokens && fields.iter().all(|it| one.sealed(it) == other.sealed(it))
}

/// What an earlier try of this request has changed.
fn by_this_request(stream: &Stream, request_id: Uuid) -> Result<Vec<String>, VaultError> {
    let mut fields = Vec::new();
    for event in stream.events.iter().filter(|event| event.event_type == SUBJECT_RECTIFIED) {
        let rectified: SubjectRectified = event.decode()?;
        if rectified.request_id == request_id {
            fields.extend(rectified.fields);
        }
    }
    fields.sort_unstable();
    fields.dedup();
    Ok(fields)
}
