//! Cursor pagination: a listing tells where its next page begins, in a form that clients pass
//! back unread. It guarantees stable pages while rows come and go; the order is the listing's own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::extract::holds_nul;
use crate::problem::{Code, Problem};

/// Which page of a listing: query parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// How many items, 1 to 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16")]
pub struct Limit(u16);

impl TryFrom<u16> for Limit {
    type Error = &'static str;

    fn try_from(items: u16) -> Result<Self, Self::Error> {
        if (1..=500).contains(&items) { Ok(Self(items)) } else { Err("a limit is 1 to 500") }
    }
}

impl Page {
    /// The number of items.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.map_or(50, |limit| usize::from(limit.0))
    }

    /// Where the page begins; none: at the start.
    ///
    /// # Errors
    /// `cursor_invalid` when the cursor is not of this listing.
    pub fn after<T: DeserializeOwned>(&self) -> Result<Option<T>, Problem> {
        self.cursor.as_deref().map(decode).transpose()
    }
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listing<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; none: this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Listing<T> {
    /// Makes a page from up to `limit + 1` rows: the surplus row tells that there is a next page,
    /// and `key` says where it begins (after the last item that is shown).
    pub fn cut<K: Serialize>(mut rows: Vec<T>, limit: usize, key: impl FnOnce(&T) -> K) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| encode(&key(last)));
        Self { items: rows, next }
    }
}

/// The opaque form of a position.
#[must_use]
pub fn encode<T: Serialize>(position: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).unwrap_or_default())
}

/// The position behind its opaque form.
///
/// # Errors
/// `cursor_invalid`.
pub fn decode<T: DeserializeOwned>(cursor: &str) -> Result<T, Problem> {
    let invalid = || Problem::new(Code::CursorInvalid);
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    if holds_nul(&bytes) {
        return Err(invalid());
    }
    serde_json::from_slice(&bytes).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surplus_row_makes_a_next_page_that_begins_after_the_last_shown() {
        let page = Listing::cut(vec![1, 2, 3], 2, |last| *last);
        assert_eq!(page.items, [1, 2]);
        assert_eq!(decode::<i32>(&page.next.unwrap()).unwrap(), 2);
        assert_eq!(Listing::cut(vec![1, 2], 2, |last| *last).next, None);
    }

    #[test]
    fn a_cursor_of_someone_elses_is_refused() {
        let page = Page { cursor: Some(encode(&"a")), ..Page::default() };
        assert_eq!(page.after::<i32>().unwrap_err().code, Code::CursorInvalid);
        assert_eq!(decode::<i32>("???").unwrap_err().code, Code::CursorInvalid);
        assert_eq!(decode::<String>(&encode(&"\0")).unwrap_err().code, Code::CursorInvalid);
    }
}
