//! A one-time code as a template: the words are the provider's own, the business chooses how the code comes into
//! the app.

use serde::Deserialize;
use utoipa::ToSchema;

use super::rules::button_text;
use crate::domain::content::Fault;

/// Most apps that a code can come into.
const APPS_MAX: usize = 5;
/// Characters of the hash by which an app is known.
const HASH_CHARS: usize = 11;

/// What a template of codes says and does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeDraft {
    /// Whether it says that the code is for nobody else.
    #[serde(default)]
    pub security_recommendation: bool,
    /// After how many minutes it says that the code is over: 1 to 90. None: it doesn't say.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 90)]
    pub expires_minutes: Option<u8>,
    /// How the code comes into the app.
    pub button: CodeButton,
}

/// How a code comes into the app.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum CodeButton {
    /// She copies it.
    CopyCode {
        /// What stands on the button; none: the provider's words.
        #[serde(default)]
        text: Option<String>,
    },
    /// One press hands it to the app; elsewhere she copies it.
    OneTap(AppButton),
    /// The app gets it without a press; elsewhere she presses or copies.
    ZeroTap(ZeroTap),
}

/// A button that hands a code to an app.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct AppButton {
    /// What stands on the button where she copies; none: the provider's words.
    #[serde(default)]
    pub text: Option<String>,
    /// What stands on it where she presses; none: the provider's words.
    #[serde(default)]
    pub autofill_text: Option<String>,
    /// The apps, 1 to 5.
    pub apps: Vec<App>,
}

/// A code that the app gets without a press.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct ZeroTap {
    /// As for one press.
    #[serde(flatten)]
    pub button: AppButton,
    /// That the provider's terms for this are accepted. Without, it takes no such template.
    pub terms_accepted: bool,
}

/// An Android app.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its package.
    #[schema(example = "com.example.app")]
    pub package_name: String,
    /// The hash of its signing key: 11 characters.
    #[schema(example = "K8a/AINcGX7")]
    pub signature_hash: String,
}

impl CodeDraft {
    /// Whether the provider would take it up.
    ///
    /// # Errors
    /// The first field that breaks a rule of the provider's, and the rule.
    pub fn check(&self) -> Result<(), Fault> {
        if self.expires_minutes.is_some_and(|it| !(1..=90).contains(&it)) {
            return Err("code.expires_minutes: 1 to 90".to_owned());
        }
        match &self.button {
            CodeButton::CopyCode { text } => button_text("code.button.text", text.as_deref()),
            CodeButton::OneTap(button) => button.check(),
            CodeButton::ZeroTap(ZeroTap { terms_accepted: false, .. }) => {
                Err("code.button.terms_accepted: the provider wants its terms accepted".to_owned())
            }
            CodeButton::ZeroTap(ZeroTap { button, .. }) => button.check(),
        }
    }
}

impl AppButton {
    fn check(&self) -> Result<(), Fault> {
        button_text("code.button.text", self.text.as_deref())?;
        button_text("code.button.autofill_text", self.autofill_text.as_deref())?;
        if !(1..=APPS_MAX).contains(&self.apps.len()) {
            return Err(format!("code.button.apps: 1 to {APPS_MAX}"));
        }
        self.apps.iter().try_for_each(App::check)
    }
}

impl App {
    fn check(&self) -> Result<(), Fault> {
        let parts: Vec<&str> = self.package_name.split('.').collect();
        let part = |part: &&str| {
            part.bytes().next().is_some_and(|it| it.is_ascii_alphabetic())
                && part.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
        };
        if parts.len() < 2 || self.package_name.len() > 224 || !parts.iter().all(part) {
            return Err("code.button.apps.package_name: such as com.example.app".to_owned());
        }
        let base64 = |it: u8| it.is_ascii_alphanumeric() || b"+/=".contains(&it);
        if self.signature_hash.len() != HASH_CHARS || !self.signature_hash.bytes().all(base64) {
            return Err(format!("code.button.apps.signature_hash: {HASH_CHARS} characters"));
        }
        Ok(())
    }
}
