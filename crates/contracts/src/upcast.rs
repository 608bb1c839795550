//! Upcasters: how an older stored or published shape is read today. Version 1 is the oldest, so
//! the list is empty; a new shape of a type adds one arm here and a golden file beside the old.

use std::borrow::Cow;

/// The newest type name and data for a stored event, whatever version wrote it.
#[must_use]
pub fn upcast<'a>(event_type: &'a str, data: &'a str) -> (Cow<'a, str>, Cow<'a, str>) {
    (Cow::Borrowed(event_type), Cow::Borrowed(data))
}
