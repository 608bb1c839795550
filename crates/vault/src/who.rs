//! `POST /v1/identities/who`: whom the platform means by the names that it gives one person. It guarantees that a
//! name of somebody who is known by another one of the same kind, or is one with such a person, is a doubt and
//! never an answer; what follows from a doubt is left to who asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{Asked, Standing, Who, WhoRequest, WhoResponse};
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::domain::identity::{Decision, Kind, People, decide};
use crate::error::VaultError;
use crate::identities::linked;
use crate::people::{self, SealedPerson};

/// Most people of one request.
const ASKED_MAX: usize = 100;
/// Most tokens of one name.
const TOKENS_MAX: usize = 100;

/// Say who is meant by the names that the platform gives people.
///
/// Needs `subjects:read` and `gate:write`. Nothing is decrypted and nothing written.
#[utoipa::path(
    post, path = "/v1/identities/who", tag = "subjects", security(("bearer" = [])),
    request_body = WhoRequest,
    responses((status = 200, body = WhoResponse),
        (status = 422, description = "validation_failed: more than 100 people, or tokens of one name"))
)]
pub(crate) async fn who(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<WhoRequest>,
) -> Result<Json<WhoResponse>, Problem> {
    caller.require("subjects:read")?;
    caller.require("gate:write")?;
    let fits = |asked: &Asked| {
        let names = [&asked.phones, &asked.user_ids, &asked.parent_user_ids];
        names.iter().all(|tokens| tokens.len() <= TOKENS_MAX)
    };
    if request.asked.len() > ASKED_MAX || !request.asked.iter().all(fits) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("at most 100 people at once, with 100 tokens of a name"));
    }
    let mut connection = app.pool().acquire().await.map_err(VaultError::from)?;
    let questions: Vec<Question<'_>> = request.asked.iter().map(Question::from).collect();
    let found = Found::all(&mut connection, &questions).await?;
    Ok(Json(WhoResponse { answers: found.iter().map(answer).collect() }))
}

fn answer(found: &Found) -> Who {
    let standing = match found.decision() {
        // Somebody who is being erased is nobody any more.
        Decision::Nobody => Standing::Nobody,
        Decision::Doubt(_) => Standing::InDoubt,
        Decision::Link(_) if !found.are_one() => Standing::ToBeLinked,
        Decision::Known(_) | Decision::Add { .. } | Decision::Link(_) => Standing::Known,
    };
    let named = found.holders();
    if standing == Standing::Nobody {
        let (named, linked, hers) = (Vec::new(), Vec::new(), Vec::new());
        return Who { standing, named, linked, hers, registered_at: None };
    }
    let linked = found.everybody().into_iter().filter(|it| !named.contains(it)).collect();
    let theirs = named.iter().filter_map(|it| found.held.get(it));
    let hers = theirs.flat_map(|person| person.tokens.iter().copied()).collect();
    let first = named.first().and_then(|it| found.held.get(it));
    let registered_at = first.map(|person| person.registered_at);
    Who { standing, named, linked, hers, registered_at }
}

/// The names that one person is known by, and who got the message that she answers.
pub(crate) struct Question<'a> {
    /// The names, each with its tokens.
    pub(crate) names: Vec<(Kind, &'a [AddressToken])>,
    /// Who got it.
    pub(crate) answers: Option<Uuid>,
}

impl<'a> From<&'a Asked> for Question<'a> {
    fn from(asked: &'a Asked) -> Self {
        // Whoever has the account counts first: a number may be somebody else's by now.
        let names = [
            (Kind::UserId, asked.user_ids.as_slice()),
            (Kind::Phone, asked.phones.as_slice()),
            (Kind::ParentUserId, asked.parent_user_ids.as_slice()),
        ];
        let names = names.into_iter().filter(|(_, tokens)| !tokens.is_empty()).collect();
        Self { names, answers: asked.answers }
    }
}

/// Those to whom names lead, and who is one with them.
pub(crate) struct Found {
    /// Who has each of the names.
    told: Vec<(Kind, Option<Uuid>)>,
    answers: Option<Uuid>,
    people: People,
    /// One of those who have a name is being erased, or not here.
    gone: bool,
    /// Their rows, and those of whoever else was looked for with them.
    pub(crate) held: Arc<HashMap<Uuid, SealedPerson>>,
}

impl Found {
    /// Looks for those whom one question means.
    pub(crate) async fn by(
        connection: &mut PgConnection,
        question: Question<'_>,
    ) -> Result<Self, VaultError> {
        let found = Self::all(connection, &[question]).await?;
        found.into_iter().next().ok_or(VaultError::Corrupt("an answer"))
    }

    /// Looks for those whom each of these questions means, with as many statements as for one.
    pub(crate) async fn all(
        connection: &mut PgConnection,
        questions: &[Question<'_>],
    ) -> Result<Vec<Self>, VaultError> {
        let names = questions.iter().flat_map(|it| &it.names);
        let tokens: Vec<AddressToken> =
            names.flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        let known = people::known(&mut *connection, &tokens).await?;
        let holder = |tokens: &[AddressToken]| tokens.iter().find_map(|it| known.get(it));
        let mut all: Vec<Self> = Vec::with_capacity(questions.len());
        for Question { names, answers } in questions {
            let told = names.iter().map(|(kind, it)| (*kind, holder(it).map(|it| it.subject)));
            let (told, people, held) = (told.collect(), People::default(), Arc::default());
            all.push(Self { told, answers: *answers, people, gone: false, held });
        }
        let holders = distinct(all.iter().flat_map(Self::holders));
        let mut groups: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
        for (subject, other) in linked(&mut *connection, &holders).await? {
            groups.entry(subject).or_default().insert(other);
        }
        for found in &mut all {
            let theirs = found.holders().into_iter();
            let theirs = theirs.filter_map(|it| groups.get(&it).map(|group| (it, group.clone())));
            found.people.linked = theirs.collect();
        }
        let everybody = distinct(all.iter().flat_map(Self::everybody));
        let held = Arc::new(people::held(&mut *connection, &everybody).await?);
        let fenced = people::fenced(connection, &holders).await?;
        let is_gone = |it: &Uuid| fenced.contains(it) || !held.contains_key(it);
        for found in &mut all {
            let kinds_of = |it| held.get(&it).map(|person| (it, kinds(person)));
            found.people.holds = found.everybody().into_iter().filter_map(kinds_of).collect();
            found.gone = found.holders().iter().any(is_gone);
            found.held = Arc::clone(&held);
        }
        Ok(all)
    }

    /// What the names mean. Of who is being erased, or of nobody who is known, they mean nobody.
    pub(crate) fn decision(&self) -> Decision {
        if self.gone { Decision::Nobody } else { decide(&self.told, self.answers, &self.people) }
    }

    /// Who has one of the names, in the order in which they were asked for.
    pub(crate) fn holders(&self) -> Vec<Uuid> {
        let mut holders: Vec<Uuid> = Vec::new();
        for it in self.told.iter().filter_map(|(_, it)| *it).chain(self.answers) {
            if !holders.contains(&it) {
                holders.push(it);
            }
        }
        holders
    }

    /// They, and whoever is one with them.
    pub(crate) fn everybody(&self) -> BTreeSet<Uuid> {
        self.holders().into_iter().flat_map(|it| self.people.group(it)).collect()
    }

    /// Whether those who have the names are one already.
    fn are_one(&self) -> bool {
        let holders = self.holders();
        holders.first().is_none_or(|first| {
            let group = self.people.group(*first);
            holders.iter().all(|it| group.contains(it))
        })
    }
}

fn kinds(person: &SealedPerson) -> Vec<Kind> {
    let held = [
        (person.phone.is_some(), Kind::Phone),
        (person.user_id.is_some(), Kind::UserId),
        (person.parent_user_id.is_some(), Kind::ParentUserId),
    ];
    held.into_iter().filter(|(held, _)| *held).map(|(_, kind)| kind).collect()
}

fn distinct(subjects: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    subjects.collect::<BTreeSet<_>>().into_iter().collect()
}
