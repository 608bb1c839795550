//! About whom and what a verdict is asked: the arguments that such commands share.

use clap::Args;

use super::upload::country;
use crate::api::{Api, Found};
use crate::outcome::Failure;
use crate::phone::Phone;

/// A person, a purpose and a channel.
#[derive(Debug, Args)]
pub struct Asked {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// For which purpose.
    #[arg(long)]
    pub purpose: String,
    /// On which channel.
    #[arg(long, default_value = "whatsapp")]
    pub channel: String,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
}

/// What is known by a number.
pub struct Owner {
    /// Who has it.
    pub found: Found,
    /// The country that issued it.
    pub number_country: Option<String>,
}

impl Asked {
    /// Who has the number.
    ///
    /// # Errors
    /// When it can't be read, or the vault doesn't answer.
    pub async fn find(&self, api: &Api) -> Result<Owner, Failure> {
        let phone = self.phone.read()?;
        let answer = api.lookup(phone, self.country.clone()).await?;
        let number_country = answer.number_country.clone();
        Ok(Owner { found: Found::from(answer), number_country })
    }
}
