//! Campaigns over HTTP: drafted, tried dry, approved, started, paused, resumed, cancelled, looked at. What they do is left
//! to [`crate::campaigns`].

pub mod acts;
pub mod draft;
pub mod read;

/// What may be a name or a reason.
fn is_code(text: &str) -> bool {
    let rest =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    text.len() <= 64
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && text.bytes().all(rest)
}
