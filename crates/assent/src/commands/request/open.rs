//! `assent request open`: the intake. It guarantees that an erasure of one purpose's data is never taken for that of all.
//! That the answer doesn't tell whether she is known here is the service's to see to.

use assent_contracts::rights::RequestKind;
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::named;
use crate::api::{Api, idempotency_key};
use crate::commands::upload::country;
use crate::outcome::{Failure, Output};
use crate::phone::Phone;

/// `assent request open`
#[derive(Debug, Args)]
pub struct Open {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// erasure, access, portability, rectification, restriction, objection or opt_out
    #[arg(long, value_parser = named::<RequestKind>)]
    kind: RequestKind,
    /// Of an erasure: the one purpose whose data are meant, as the policy names it. Without it all of hers are
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// Where she says that she is (FR, US-CA): whose law counts beside yours. Without it the country of her number does
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,
    /// When it was received, where that was before now: its terms are counted from there
    #[arg(long, value_name = "TIME")]
    received: Option<Timestamp>,
    /// The ground, as a code of yours
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// What showed you that she asks herself, as a code of yours; without it that is still to be shown
    #[arg(long, value_name = "CODE")]
    checked: Option<String>,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
}

/// The answer to an intake.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    request_id: Uuid,
    status: String,
    due: Timestamp,
    reference: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Open {
    pub(super) async fn run(&self, api: &Api, output: Output) -> Result<(), Failure> {
        let found = api.lookup(self.phone.read()?, self.country.clone()).await?;
        let identity = self.checked.as_ref().map(|it| json!({"method": "operator", "reason": it}));
        let mut request = json!({
            "subject_id": found.subject_id,
            "kind": self.kind,
            "actor": "subject",
            "reason": self.reason,
            "place": self.place,
            "received_at": self.received,
            "addresses": found.addresses,
            "number_country": found.number_country,
            "identity": identity,
        });
        // A service of before refuses the member: it never takes this for the erasure of the whole person.
        if let Some(purpose) = &self.purpose {
            request["purpose"] = json!(purpose);
        }
        let opened: Opened =
            api.post("/erasure/v1/requests", &request, Some(&idempotency_key())).await?;
        output.print(&opened, |it| {
            let mut text = format!("{}\n  request    {}", it.status, it.request_id);
            text.push_str(&format!("\n  due        {}", it.due));
            text.push_str(&format!("\n  reference  {}", it.reference));
            if let Some(secret) = &it.secret {
                text.push_str(&format!("\n  secret     {secret}"));
            }
            text
        });
        Ok(())
    }
}
