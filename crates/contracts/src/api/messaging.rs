//! Messaging as the console calls it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::SubjectId;

/// `POST /v1/stops`: a person opts out of everything on a page, while the consent service is down.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PageStop {
    /// Its id: repeating it changes nothing.
    pub stop_id: Uuid,
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
}

/// It holds.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PageStopTaken {
    /// The stop.
    pub stop_id: Uuid,
}
