//! A page's commands and what it says they print. A command begins with `$ ` and goes on as long as its line ends
//! with `\` or a quote is open; what follows, up to the next one, is its output.

/// One command of a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands, from 1.
    pub line: usize,
    /// What is typed.
    pub command: String,
    /// What the page says that it prints.
    pub printed: String,
}

/// The commands of all blocks that are marked `console`.
///
/// # Errors
/// Line and fault, when a block doesn't begin with a command or doesn't end.
pub fn steps(page: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = page.lines().zip(1..);
    while let Some((fence, opened)) = lines.next() {
        if fence != "```console" {
            continue;
        }
        let first = steps.len();
        loop {
            let Some((text, line)) = lines.next() else {
                return Err(format!("{opened}: this block has no end"));
            };
            if text == "```" {
                break;
            }
            if let Some(typed) = text.strip_prefix("$ ") {
                let mut command = typed.to_owned();
                while goes_on(&command) {
                    let Some((more, _)) = lines.next().filter(|(more, _)| *more != "```") else {
                        return Err(format!("{line}: this command has no end"));
                    };
                    command = format!("{command}\n{more}");
                }
                steps.push(Step { line, command, printed: String::new() });
            } else if let Some(step) = steps.get_mut(first..).and_then(<[Step]>::last_mut) {
                step.printed.push_str(text.trim_end());
                step.printed.push('\n');
            } else {
                return Err(format!("{line}: a console block begins with a command: `$ …`"));
            }
        }
    }
    Ok(steps)
}

fn goes_on(command: &str) -> bool {
    command.ends_with('\\') || command.matches('\'').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_what_they_print() {
        let page = "# Page\n```\n$ not this\n```\n```console\n$ one\na\nb\n$ two \\\n    -d '{\n  }'\nc\n```\ntext\n";
        let step = |line, command: &str, printed: &str| Step {
            line,
            command: command.to_owned(),
            printed: printed.to_owned(),
        };
        assert_eq!(
            steps(page).unwrap(),
            [step(6, "one", "a\nb\n"), step(9, "two \\\n    -d '{\n  }'", "c\n")]
        );
        for (page, fault) in [
            ("```console\nno command\n```\n", "2: a console block begins with a command: `$ …`"),
            ("```console\n$ one\n", "1: this block has no end"),
            ("```console\n$ one 'two\n```\n", "2: this command has no end"),
        ] {
            assert_eq!(steps(page).unwrap_err(), fault);
        }
    }
}
