//! The folder of the bot's files. What they mean is [`crate::domain::bot::flows`]'s to say.

use std::path::Path;

use crate::domain::bot::flows::{Around, BOT_FILE, Bot, Fault};

/// The bot of this folder: `bot.toml`, and steps in every other `*.toml`.
///
/// # Errors
/// Everything that is wrong, by file.
pub fn load(dir: &Path, around: Around<'_>) -> Result<Bot, Vec<Fault>> {
    let fault = |file: String, error: std::io::Error| {
        vec![Fault { file, problem: format!("can't be read: {error}") }]
    };
    let folder = || dir.display().to_string();
    let entries = std::fs::read_dir(dir).map_err(|error| fault(folder(), error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fault(folder(), error))?.path();
        if path.extension().is_none_or(|it| it != "toml") {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).map_err(|error| fault(name.clone(), error))?;
        files.push((name, text));
    }
    // One order, so that the same files make the same bot.
    files.sort_by(|(a, _), (b, _)| (a != BOT_FILE, a).cmp(&(b != BOT_FILE, b)));
    Bot::build(&files, around)
}
