//! Rule files of a deployment's own, from a folder.

use std::io::ErrorKind;
use std::path::Path;

use crate::set::{Fault, RuleSet};

const EXAMPLES: &str = ".examples.toml";

impl RuleSet {
    /// The rules that come with Assent and, added to them, those of a folder: `NAME.toml` with
    /// `NAME.examples.toml` beside each. A file of the same name takes the place of ours.
    ///
    /// # Errors
    /// Everything that is wrong, of all files at once.
    pub fn with_own(own: Option<&Path>) -> Result<Self, Vec<Fault>> {
        let mut set = Self::shipped()?;
        let Some(dir) = own else { return Ok(set) };
        let mut faults = Vec::new();
        let fault = |path: &Path, error: &dyn std::fmt::Display| Fault {
            at: path.display().to_string(),
            reason: error.to_string(),
        };
        let entries = std::fs::read_dir(dir).map_err(|error| vec![fault(dir, &error)])?;
        let mut paths = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => paths.push(entry.path()),
                Err(error) => faults.push(fault(dir, &error)),
            }
        }
        paths.sort_unstable();
        for path in &paths {
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            if name.starts_with('.') {
                continue;
            }
            if let Some(name) = name.strip_suffix(EXAMPLES) {
                if !dir.join(format!("{name}.toml")).exists() {
                    faults.push(fault(path, &format!("there is no {name}.toml beside it")));
                }
                continue;
            }
            let Some(name) = name.strip_suffix(".toml") else {
                faults.push(fault(path, &"only NAME.toml and NAME.examples.toml belong here"));
                continue;
            };
            match std::fs::read_to_string(path) {
                Ok(rules) => {
                    let examples = dir.join(format!("{name}{EXAMPLES}"));
                    match std::fs::read_to_string(&examples) {
                        Err(error) if error.kind() != ErrorKind::NotFound => {
                            faults.push(fault(&examples, &error));
                        }
                        examples => {
                            let added = set.add(name, &rules, examples.ok().as_deref());
                            faults.extend(added.err().into_iter().flatten());
                        }
                    }
                }
                Err(error) => faults.push(fault(path, &error)),
            }
        }
        faults.extend(set.faults());
        if faults.is_empty() { Ok(set) } else { Err(faults) }
    }
}
