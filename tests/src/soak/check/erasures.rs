//! G4 and G6: an erasure that is called complete has left nothing, and nothing brings the person back.

use crate::cluster::Cluster;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use super::Found;
use crate::soak::history::{History, Person};

/// Where rows about a person may be: database, table, column.
const ROWS: [(&str, &str, &str); 10] = [
    ("vault", "people", "subject_id"),
    ("vault", "addresses", "subject_id"),
    ("consent", "consent_lines", "subject_id"),
    ("consent", "(SELECT unnest(subjects) AS id FROM permit_batches) AS permits", "id"),
    ("messaging", "intents", "subject_id"),
    ("messaging", "inbound_messages", "subject_id"),
    ("messaging", "conversations", "subject_id"),
    ("projector", "live.contacts", "subject_id"),
    ("projector", "live.consents", "subject_id"),
    ("projector", "live.messages", "subject_id"),
];

/// Where a person's random id may stay: database and table. Her last event and her fence keep her erased, an access
/// record says who read, and the saga's commands and the consumers' sequences say what was done in which order.
const KEPT: [(&str, &str); 14] = [
    ("consent", "eventstore.consumer_keys"),
    ("consent", "eventstore.events"),
    ("consent", "participant.commands"),
    ("consent", "public.fences"),
    ("messaging", "eventstore.consumer_keys"),
    ("messaging", "eventstore.events"),
    ("messaging", "participant.commands"),
    ("messaging", "public.fences"),
    ("projector", "participant.commands"),
    ("projector", "public.fences"),
    ("vault", "eventstore.events"),
    ("vault", "participant.commands"),
    ("vault", "public.access_records"),
    ("vault", "public.tombstones"),
];
/// Whose tables are looked through. The saga's own say whom it erased, and keys are counted.
const DATABASES: [&str; 5] = ["consent", "messaging", "messaging_keys", "projector", "vault"];

/// Certificates are there, and rows and keys are gone. The others' are there: the look isn't blind.
pub async fn whole(cluster: &Cluster, history: &History) -> Found {
    let mut found = Found::default();
    for person in history.erased() {
        let request = person.erased().unwrap_or_default();
        let path = format!("/v1/requests/{request}");
        let (_, view) = cluster.get("erasure", &path).await;
        found.look(view["status"] == "completed" && view["missing"] == json!([]), || {
            format!("{request}: {} without {}", view["status"], view["missing"])
        });
        let (status, _) = cluster.get("erasure", &format!("{path}/certificate")).await;
        found.look(status == 200, || format!("{request}: no certificate ({status})"));
    }
    let erased: Vec<&str> = history.erased().map(|person| person.subject.as_str()).collect();
    let others: Vec<&str> = history.remaining().map(|person| person.subject.as_str()).collect();
    for database in ["vault_keys", "messaging_keys"] {
        let living = "keys WHERE wrapped IS NOT NULL AND id::text = ANY($1)";
        let left = count(cluster, database, living, &erased).await;
        found.look(left == 0, || format!("{database}: {left} keys of erased people"));
    }
    let kept = count(
        cluster,
        "vault_keys",
        "keys WHERE wrapped IS NOT NULL AND id::text = ANY($1)",
        &others,
    );
    let kept = kept.await;
    found.look(kept == others.len() as i64, || format!("{kept} keys of {} people", others.len()));
    found.violations.extend(rows(cluster, &erased).await);
    found.looked_at += ROWS.len();
    let there = count(cluster, "vault", "people WHERE subject_id::text = ANY($1)", &others).await;
    found.look(there == others.len() as i64, || format!("{there} rows of {}", others.len()));
    found
}

/// Neither an import of her number nor a rebuild of every read model from zero brings her back.
pub async fn stays(cluster: &Cluster, history: &History) -> Found {
    let mut found = Found::default();
    for person in history.erased() {
        let body = json!({"origin": "import", "rows": [{"phone": person.phone}]});
        let (_, answer) = cluster.post("vault", "/v1/subjects/import", &body, None).await;
        let outcome = &answer["outcomes"][0];
        found.look(outcome["outcome"] == "refused" && outcome["reason"] == "erased", || {
            format!("{}: imported again: {}", person.subject, outcome["outcome"])
        });
    }
    for projection in ["contacts", "consents", "messages"] {
        // What a rebuild finds is the next check's.
        cluster.assent(&["projection", "rebuild", projection]);
    }
    let erased: Vec<&str> = history.erased().map(|person| person.subject.as_str()).collect();
    found.violations.extend(rows(cluster, &erased).await);
    found
}

/// No table of any service names an erased person, but for what keeps her erased; a table that is new is looked at
/// too. The others are named: the look isn't blind.
pub async fn nowhere(cluster: &Cluster, history: &History) -> Found {
    const TABLES: &str = "
        SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";
    const MORE_THAN_ONE: &str =
        "(SELECT stream FROM eventstore.events WHERE stream::text = ANY($1) GROUP BY stream
          HAVING count(*) > 1) AS more";
    let pattern = |person: &Person| format!("%{}%", person.subject);
    let patterns: Vec<String> = history.erased().map(pattern).collect();
    let erased: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let patterns: Vec<String> = history.remaining().map(pattern).collect();
    let others: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let mut found = Found::default();
    let mut seen = Vec::new();
    for database in DATABASES {
        let pool = cluster.pool(database).await;
        let tables: Vec<String> =
            sqlx::query_scalar(TABLES).fetch_all(&pool).await.expect("Postgres answers");
        for table in tables {
            let from = format!("{table} AS held WHERE held::text LIKE ANY($1)");
            let left = counted(&pool, &from, &erased).await;
            let may_stay = KEPT.contains(&(database, table.as_str()));
            found.look(left == 0 || may_stay, || {
                format!("{database}: {left} rows of {table} name erased people")
            });
            if counted(&pool, &from, &others).await > 0 {
                seen.push(format!("{database}.{table}"));
            }
        }
    }
    for table in ["consent.public.consent_lines", "projector.live.contacts", "vault.public.people"]
    {
        let blind = || format!("who was not erased is not found in {table}: {seen:?}");
        found.look(seen.iter().any(|it| it == table), blind);
    }
    let erased: Vec<&str> = history.erased().map(|person| person.subject.as_str()).collect();
    for database in ["consent", "messaging"] {
        let more = count(cluster, database, MORE_THAN_ONE, &erased).await;
        found.look(more == 0, || format!("{database}: {more} people have more than a last event"));
    }
    found
}

/// Which tables hold something about these people.
async fn rows(cluster: &Cluster, subjects: &[&str]) -> Vec<String> {
    let mut left = Vec::new();
    for (database, table, column) in ROWS {
        let from = format!("{table} WHERE {column}::text = ANY($1)");
        let count = count(cluster, database, &from, subjects).await;
        if count > 0 {
            left.push(format!("{database}.{table}: {count} rows of erased people"));
        }
    }
    left
}

async fn count(cluster: &Cluster, database: &str, from: &str, subjects: &[&str]) -> i64 {
    counted(&cluster.pool(database).await, from, subjects).await
}

async fn counted(pool: &PgPool, from: &str, subjects: &[&str]) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {from}")))
        .bind(subjects)
        .fetch_one(pool)
        .await
        .unwrap_or_else(|error| panic!("{from}: {error}"))
}
