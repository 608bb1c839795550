//! The provider's list of templates, read tolerantly: one element that can't be read is left out, and told.

use serde::Deserialize;
use serde_json::Value;

/// What is asked for.
pub const FIELDS: &str = "id,name,language,status,category,components,parameter_format,\
quality_score,rejected_reason";

/// A page of the list.
#[derive(Deserialize)]
pub struct Page {
    #[serde(default)]
    data: Vec<Value>,
    #[serde(default)]
    paging: Paging,
}

#[derive(Default, Deserialize)]
struct Paging {
    #[serde(default)]
    cursors: Cursors,
    next: Option<String>,
}

#[derive(Default, Deserialize)]
struct Cursors {
    after: Option<String>,
}

/// A template as the list tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its id, by which it is edited.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its language code.
    pub language: String,
    /// Its category.
    pub category: String,
    /// Its status.
    pub status: String,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// Its quality.
    pub quality: Option<String>,
    /// Its shape.
    pub components: Option<Value>,
    /// Whether its parameters have names.
    pub named: bool,
}

/// What a page says.
pub struct Read {
    /// Its templates.
    pub listed: Vec<Listed>,
    /// Whether there was nothing else on it: what is missing from it is missing at the provider.
    pub whole: bool,
    /// Where the next page begins.
    pub after: Option<String>,
}

impl Page {
    /// Reads it.
    #[must_use]
    pub fn read(self) -> Read {
        let elements = self.data.len();
        let listed: Vec<Listed> = self.data.iter().filter_map(listed).collect();
        let whole = listed.len() == elements;
        if !whole {
            let unreadable = elements - listed.len();
            tracing::warn!(unreadable, "templates of the provider's list can't be read");
        }
        Read { listed, whole, after: self.paging.next.and(self.paging.cursors.after) }
    }
}

fn listed(item: &Value) -> Option<Listed> {
    let text = |key: &str| item.get(key)?.as_str().map(str::to_owned);
    let quality = item.get("quality_score");
    Some(Listed {
        id: text("id"),
        name: text("name")?,
        language: text("language")?.replace('-', "_"),
        category: text("category")?,
        status: text("status")?,
        reason: text("rejected_reason").filter(|reason| reason != "NONE"),
        quality: quality.and_then(|it| it.get("score").unwrap_or(it).as_str()).map(str::to_owned),
        components: item.get("components").filter(|it| it.is_array()).cloned(),
        named: text("parameter_format").is_some_and(|it| it.eq_ignore_ascii_case("NAMED")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_what_is_new_in_it_and_without_what_cannot_be_read() {
        let page: Page = serde_json::from_str(
            r#"{"data":[{"id":"1","name":"offer","language":"en-US","category":"MARKETING","status":"PAUSED",
                "quality_score":{"score":"RED","date":1},"parameter_format":"NAMED","new":{},
                "components":[{"type":"BODY","text":"Hi"}]}, {"name":"half"}, 7],
            "paging":{"cursors":{"before":"a","after":"b"},"next":"https://a.example"},"more":1}"#,
        )
        .unwrap();
        let Read { listed, whole, after } = page.read();
        assert_eq!((listed.len(), whole), (1, false));
        assert_eq!((&*listed[0].language, listed[0].named), ("en_US", true));
        assert_eq!(listed[0].id.as_deref(), Some("1"));
        assert_eq!(listed[0].quality.as_deref(), Some("RED"));
        assert_eq!(after.as_deref(), Some("b"));
        // The last page has cursors too, but nothing behind them.
        let last: Page =
            serde_json::from_str(r#"{"data":[],"paging":{"cursors":{"after":"c"}}}"#).unwrap();
        let last = last.read();
        assert_eq!((last.after, last.whole), (None, true));
    }
}
