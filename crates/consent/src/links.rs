//! The vault's events: whose address is which, and which addresses are suppressed. It guarantees
//! that nobody who is fenced gets a link and that an address without one is denied.
//!
//! Making a link can take a right away: a person with a second, stopped address may be written to
//! on neither. Who is told of a link by an answer waits one lease for it ([`link_settled`]). By an event nobody
//! is told, so nobody has to wait for it; whoever needs it settled (an erasure's fence) names the position
//! in its barrier and waits the lease after it.

use std::collections::HashSet;
use std::sync::Arc;

use assent_bus::{ApplyError, Reader, Received, Sequencing, Subscriber};
use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{Link, SameAddress, StopKind};
use assent_contracts::topics::{Topic, VAULT_EVENTS};
use assent_contracts::vault::{
    ADDRESS_SUPPRESSED, AddressSuppressed, IDENTIFIERS_ADDED, IDENTIFIERS_REMOVED,
    IdentifiersAdded, IdentifiersRemoved, SUBJECT_LINKED, SUBJECT_REGISTERED, SubjectLinked,
    SubjectRegistered,
};
use assent_runtime::{Clock, LeaseTerms, settle};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde::de::DeserializeOwned;
use sqlx::{PgConnection, PgPool};

use crate::gate::{self, Closing};
use crate::standing;

/// Held shared by whoever links and exclusively by whoever fences: a link that is being written
/// can't slip past a fence. `SELECT`s never take it.
pub const LINKING_LOCK: i64 = 0x6173_7365_6e74_0001;

/// Its consumer. A new name reads the topic from its beginning: a replica from before user ids were known may have
/// passed over what was told of them. (It was `consent.links`, then `consent.address-links`.)
pub const READER: Reader = Reader { consumer: "consent.identity-links", topic: VAULT_EVENTS };

/// Follows the vault.
pub struct Links {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Subscriber for Links {
    fn name(&self) -> &'static str {
        READER.consumer
    }

    fn topics(&self) -> Vec<Topic> {
        vec![READER.topic]
    }

    fn sequencing(&self) -> Sequencing {
        Sequencing::Tracked
    }

    async fn apply(&self, conn: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        let mut links = Columns::default();
        let mut removed = Columns::default();
        let mut closings = Vec::new();
        let mut heard = Vec::new();
        for (index, event) in batch.iter().enumerate() {
            match event.event_type.as_str() {
                SUBJECT_REGISTERED => {
                    let registered: SubjectRegistered = decode(index, event)?;
                    let region = registered.region.as_ref();
                    links.push(event.key, &registered.addresses, region, true);
                }
                IDENTIFIERS_ADDED => {
                    let added: IdentifiersAdded = decode(index, event)?;
                    links.push(event.key, &added.addresses, added.region.as_ref(), true);
                    removed.take_back(event.key, &added.addresses);
                }
                IDENTIFIERS_REMOVED => {
                    let gone: IdentifiersRemoved = decode(index, event)?;
                    removed.push(event.key, &gone.addresses, None, false);
                }
                SUBJECT_LINKED => {
                    let linked: SubjectLinked = decode(index, event)?;
                    links.push(event.key, &linked.addresses, None, false);
                }
                ADDRESS_SUPPRESSED => {
                    let suppressed: AddressSuppressed = decode(index, event)?;
                    heard.push((event.id, suppressed.at.to_sqlx()));
                    let closing = |token: AddressToken| Closing {
                        token,
                        kind: StopKind::Suppressed,
                        by: event.id,
                        since: suppressed.at,
                    };
                    closings.extend(suppressed.addresses.into_iter().map(closing));
                }
                _ => {}
            }
        }
        // Links first: a fence takes the linking lock before it takes rows.
        links.write(conn, self.clock.now()).await?;
        removed.disown(conn).await?;
        self.suppress(conn, &heard, closings).await?;
        Ok(())
    }
}

impl Links {
    /// A suppression whose id is known (the vault asked for it over HTTP, or this is a replay)
    /// changes nothing: she may have lifted it by her own act since.
    async fn suppress(
        &self,
        conn: &mut PgConnection,
        heard: &[(uuid::Uuid, jiff_sqlx::Timestamp)],
        mut closings: Vec<Closing>,
    ) -> Result<(), sqlx::Error> {
        const STOPS: &str = "
            INSERT INTO stops (stop_id, kind, heard_at, recorded_at, settled)
            SELECT DISTINCT ON (stop_id) stop_id, 'suppressed', heard_at, $3, true
            FROM unnest($1::uuid[], $2::timestamptz[]) AS t (stop_id, heard_at) ORDER BY stop_id
            ON CONFLICT (stop_id) DO NOTHING RETURNING stop_id";
        if heard.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let (ids, at): (Vec<uuid::Uuid>, Vec<jiff_sqlx::Timestamp>) = heard.iter().copied().unzip();
        let new: Vec<uuid::Uuid> = sqlx::query_scalar(STOPS)
            .bind(&ids)
            .bind(&at)
            .bind(now.to_sqlx())
            .fetch_all(&mut *conn)
            .await?;
        closings.retain(|closing| new.contains(&closing.by));
        gate::close(conn, &closings).await
    }
}

/// Links, as columns.
#[derive(Default)]
struct Columns {
    subjects: Vec<SubjectId>,
    tokens: Vec<Vec<u8>>,
    regions: Vec<Option<String>>,
    own: Vec<bool>,
}

impl Columns {
    fn push(
        &mut self,
        subject: SubjectId,
        addresses: &[AddressToken],
        region: Option<&String>,
        own: bool,
    ) {
        for token in addresses {
            self.own.push(own);
            self.subjects.push(subject);
            self.tokens.push(token.to_bytes().to_vec());
            self.regions.push(region.cloned());
        }
    }

    /// Without these, which came back.
    fn take_back(&mut self, subject: SubjectId, addresses: &[AddressToken]) {
        let back: Vec<Vec<u8>> = addresses.iter().map(|token| token.to_bytes().to_vec()).collect();
        for at in (0..self.subjects.len()).rev() {
            if self.subjects[at] == subject && back.contains(&self.tokens[at]) {
                self.subjects.remove(at);
                self.tokens.remove(at);
                self.regions.remove(at);
                self.own.remove(at);
            }
        }
    }

    /// They are not hers any more; what stands against them stands against her on.
    async fn disown(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        const DISOWN: &str = "
            UPDATE gate_links AS l SET own = false
            FROM unnest($1::uuid[], $2::bytea[]) AS t (subject_id, token)
            WHERE l.subject_id = t.subject_id AND l.token = t.token";
        if self.subjects.is_empty() {
            return Ok(());
        }
        let disown = sqlx::query(DISOWN).bind(&self.subjects).bind(&self.tokens);
        disown.execute(conn).await.map(|_| ())
    }

    /// Writes them, in one order for everybody; gives how many are new.
    async fn write(&self, conn: &mut PgConnection, now: Timestamp) -> Result<u64, sqlx::Error> {
        // A number keeps the country in which it was issued; what was not known may be told later.
        const LINK: &str = "
        INSERT INTO gate_links AS l (subject_id, token, region, region_at, linked_at, own)
        SELECT t.subject_id, t.token, max(t.region), $4, $4, bool_or(t.own)
        FROM unnest($1::uuid[], $2::bytea[], $3::text[], $5::bool[])
             AS t (subject_id, token, region, own)
        WHERE NOT EXISTS (SELECT 1 FROM fences f WHERE f.subject_id = t.subject_id)
        GROUP BY t.subject_id, t.token ORDER BY t.subject_id, t.token
        ON CONFLICT (subject_id, token) DO UPDATE
            SET region = coalesce(l.region, excluded.region), own = l.own OR excluded.own,
                region_at = CASE WHEN l.region IS NULL AND excluded.region IS NOT NULL
                                 THEN excluded.region_at ELSE l.region_at END
        WHERE l.region IS NULL AND excluded.region IS NOT NULL OR excluded.own AND NOT l.own
        RETURNING token";
        if self.subjects.is_empty() {
            return Ok(0);
        }
        // Two statements: the second one's snapshot must begin after the lock is held.
        sqlx::query("SELECT pg_advisory_xact_lock_shared($1)")
            .bind(LINKING_LOCK)
            .execute(&mut *conn)
            .await?;
        let link =
            sqlx::query_scalar(LINK).bind(&self.subjects).bind(&self.tokens).bind(&self.regions);
        let link = link.bind(now.to_sqlx()).bind(&self.own);
        let news: Vec<Vec<u8>> = link.fetch_all(&mut *conn).await?;
        standing::mark_linked(conn, &news).await?;
        Ok(news.len() as u64)
    }
}

/// Links people with addresses and returns when that holds: where something stands against one of the
/// addresses, or somebody else has it, one lease after the commit. Gives how many links are new.
///
/// # Errors
/// When the database fails; a repeat is harmless.
pub async fn link_settled(
    pool: &PgPool,
    clock: &dyn Clock,
    terms: &LeaseTerms,
    links: &[Link],
) -> Result<u64, sqlx::Error> {
    // Whether it is new or not: a repeat may be of one that was never waited for.
    const RESTRICTS: &str = "
        SELECT EXISTS (SELECT FROM gate_rows WHERE token = ANY($1))
            OR EXISTS (SELECT FROM gate_links WHERE token = ANY($1)
                       GROUP BY token HAVING count(*) > 1)";
    let mut columns = Columns::default();
    for link in links {
        // Which of them are her own is said by the vault's events, in their order.
        columns.push(link.subject_id, &link.addresses, None, false);
    }
    let mut transaction = pool.begin().await?;
    let linked = columns.write(&mut transaction, clock.now()).await?;
    transaction.commit().await?;
    // After the commit: what came in beside it counts too.
    let restricts: bool =
        sqlx::query_scalar(RESTRICTS).bind(&columns.tokens).fetch_one(pool).await?;
    if restricts {
        settle(clock, terms).await;
    }
    Ok(linked)
}

/// What came of more tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retold {
    /// Links that are new.
    pub linked: u64,
    /// Tokens against which something stands since.
    pub barred: u64,
}

/// Gives addresses more tokens: whoever has an address by a known one has it by the further ones too, and what stands
/// against it stands against these. One transaction, so at no moment an address is less barred by one of its tokens.
///
/// `instead`: nobody gets the known tokens any more, and they go where the further ones are known.
///
/// Nobody has to wait a lease: what stands did so before, by the tokens by which permits are asked for. A new link is as
/// old as the one that it is made from: nothing was heard of her by it.
///
/// # Errors
/// When the database fails; a repeat is harmless.
pub async fn retell(
    pool: &PgPool,
    addresses: &[SameAddress],
    instead: bool,
) -> Result<Retold, sqlx::Error> {
    const UNLINK: &str = "
        DELETE FROM gate_links AS l
        USING unnest($1::bytea[], $2::bytea[]) AS t (known, more)
              JOIN gate_links n ON n.token = t.more
        WHERE l.token = t.known AND l.subject_id = n.subject_id";
    // Where somebody still has it, because her erasure has begun, it stands.
    const CLEAR: &str = "
        DELETE FROM gate_rows AS r WHERE r.token = ANY($1)
          AND NOT EXISTS (SELECT 1 FROM gate_links l WHERE l.token = r.token)
        RETURNING r.token";
    // What is lifted or closed meanwhile is waited for, and read as it is then. Not shared: two that both take a row
    // away would wait for each other.
    const HOLD: &str = "
        SELECT token FROM gate_rows WHERE token = ANY($1) ORDER BY token FOR UPDATE";
    const LINK: &str = "
        INSERT INTO gate_links AS g (subject_id, token, region, region_at, linked_at, own)
        SELECT l.subject_id, t.more, max(l.region), max(l.region_at), min(l.linked_at),
               bool_or(l.own)
        FROM unnest($1::bytea[], $2::bytea[]) AS t (known, more)
             JOIN gate_links l ON l.token = t.known
        WHERE NOT EXISTS (SELECT 1 FROM fences f WHERE f.subject_id = l.subject_id)
        GROUP BY l.subject_id, t.more ORDER BY l.subject_id, t.more
        ON CONFLICT (subject_id, token) DO NOTHING";
    // What was lifted by a further token since it was barred by a known one stays lifted. What ends by age counts from
    // when it was last said ([`crate::suppression`]), by whichever token.
    const BAR: &str = "
        INSERT INTO gate_rows AS g (token, stopped_by, suppressed_by, erased_by, changed_at,
                                    heard_at)
        SELECT t.more, (array_agg(r.stopped_by) FILTER (WHERE r.stopped_by IS NOT NULL))[1],
               (array_agg(r.suppressed_by) FILTER (WHERE r.suppressed_by IS NOT NULL))[1],
               (array_agg(r.erased_by) FILTER (WHERE r.erased_by IS NOT NULL))[1],
               max(r.changed_at), max(greatest(r.heard_at, r.changed_at))
        FROM unnest($1::bytea[], $2::bytea[]) AS t (known, more)
             JOIN gate_rows r ON r.token = t.known
        WHERE num_nonnulls(r.stopped_by, r.suppressed_by, r.erased_by) > 0
        GROUP BY t.more ORDER BY t.more
        ON CONFLICT (token) DO UPDATE SET
            stopped_by = coalesce(g.stopped_by, excluded.stopped_by),
            suppressed_by = coalesce(g.suppressed_by, excluded.suppressed_by),
            erased_by = coalesce(g.erased_by, excluded.erased_by),
            changed_at = CASE
                WHEN (g.stopped_by IS NULL AND excluded.stopped_by IS NOT NULL)
                  OR (g.suppressed_by IS NULL AND excluded.suppressed_by IS NOT NULL)
                  OR (g.erased_by IS NULL AND excluded.erased_by IS NOT NULL)
                THEN greatest(g.changed_at, excluded.changed_at) ELSE g.changed_at END,
            heard_at = greatest(g.heard_at, g.changed_at, excluded.heard_at)
        WHERE (num_nonnulls(g.stopped_by, g.suppressed_by, g.erased_by) > 0
               OR g.changed_at < excluded.changed_at)
          AND ((g.stopped_by IS NULL AND excluded.stopped_by IS NOT NULL)
               OR (g.suppressed_by IS NULL AND excluded.suppressed_by IS NOT NULL)
               OR (g.erased_by IS NULL AND excluded.erased_by IS NOT NULL)
               OR excluded.heard_at > greatest(g.heard_at, g.changed_at))
        RETURNING token";
    // A row without a bar says that it was lifted: without it a list that is said again would count as new
    // ([`crate::stops`]).
    const LIFTED: &str = "
        INSERT INTO gate_rows (token, changed_at, heard_at)
        SELECT t.more, max(r.changed_at), max(greatest(r.heard_at, r.changed_at))
        FROM unnest($1::bytea[], $2::bytea[]) AS t (known, more)
             JOIN gate_rows r ON r.token = t.known
        WHERE num_nonnulls(r.stopped_by, r.suppressed_by, r.erased_by) = 0
        GROUP BY t.more ORDER BY t.more
        ON CONFLICT (token) DO NOTHING";
    let (mut known, mut more) = (Vec::new(), Vec::new());
    for address in addresses {
        for before in &address.known {
            for further in &address.more {
                known.push(before.to_bytes().to_vec());
                more.push(further.to_bytes().to_vec());
            }
        }
    }
    let mut transaction = pool.begin().await?;
    // As with every link: none slips past a fence.
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1)")
        .bind(LINKING_LOCK)
        .execute(&mut *transaction)
        .await?;
    let linked = sqlx::query(LINK).bind(&known).bind(&more).execute(&mut *transaction).await?;
    let held: Vec<Vec<u8>> =
        sqlx::query_scalar(HOLD).bind(&known).fetch_all(&mut *transaction).await?;
    let barred: Vec<Vec<u8>> =
        sqlx::query_scalar(BAR).bind(&known).bind(&more).fetch_all(&mut *transaction).await?;
    sqlx::query(LIFTED).bind(&known).bind(&more).execute(&mut *transaction).await?;
    let mut changed = barred.clone();
    if instead {
        sqlx::query(UNLINK).bind(&known).bind(&more).execute(&mut *transaction).await?;
        // Only what was held and so read: what is closed by a known token since then stays.
        let cleared: Vec<Vec<u8>> =
            sqlx::query_scalar(CLEAR).bind(&held).fetch_all(&mut *transaction).await?;
        let cleared: HashSet<Vec<u8>> = cleared.into_iter().collect();
        let moved = known.iter().zip(&more).filter(|pair| cleared.contains(pair.0));
        changed.extend(moved.map(|(_, further)| further.clone()));
    }
    // What stands against people is in their streams too: less may stand where a bar went that was lifted since.
    if !changed.is_empty() {
        standing::mark_linked(&mut transaction, &changed).await?;
    }
    transaction.commit().await?;
    Ok(Retold { linked: linked.rows_affected(), barred: barred.len() as u64 })
}

fn decode<T: DeserializeOwned>(index: usize, event: &Received) -> Result<T, ApplyError> {
    serde_json::from_slice(&event.data)
        .map_err(|_| ApplyError::Poison { index, reason: "malformed_data" })
}
