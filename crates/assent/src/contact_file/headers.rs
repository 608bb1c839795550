//! What a column's name says about its content, in the spellings that phones, Outlook, Google and
//! spreadsheets use in English, French, Russian, German and Spanish. Only names are judged here;
//! content is for the guess in `columns`.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A phone number; mobile ones come first.
    Phone {
        /// Whether the name says that it is a mobile number.
        mobile: bool,
    },
    /// The kind of the number in the column of the same label (`Phone 1 - Type`).
    PhoneLabel,
    Email,
    Country,
    FullName,
    GivenName,
    MiddleName,
    FamilyName,
}

/// A name in comparable form: lower case, without accents, words separated by one space.
pub(super) fn normalise(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase) {
        let folded = match c {
            'à' | 'á' | 'â' | 'ä' | 'ã' | 'å' => 'a',
            'ç' => 'c',
            'è' | 'é' | 'ê' | 'ë' => 'e',
            'ì' | 'í' | 'î' | 'ï' => 'i',
            'ñ' => 'n',
            'ò' | 'ó' | 'ô' | 'ö' | 'õ' => 'o',
            'ù' | 'ú' | 'û' | 'ü' => 'u',
            // Some systems write these as a letter and a combining mark: both become the letter.
            'ё' => 'е',
            'й' => 'и',
            'ß' => {
                normal.push_str("ss");
                continue;
            }
            c if c.is_alphanumeric() => c,
            // A combining accent belongs to the letter before it.
            '\u{300}'..='\u{36f}' | '\'' | '’' => continue,
            _ => ' ',
        };
        if folded != ' ' || !normal.ends_with(' ') {
            normal.push(folded);
        }
    }
    normal.trim().to_owned()
}

/// What the column of this name holds, if its name says so.
pub(super) fn kind(name: &str) -> Option<Kind> {
    let name = normalise(name);
    let words: Vec<&str> = name.split(' ').collect();
    let any = |list: &[&str]| words.iter().any(|word| list.contains(word));
    let any_part = |list: &[&str]| list.iter().any(|part| name.contains(part));

    if any(&["email", "emails", "mail", "courriel", "correo", "messagerie", "mailadresse"])
        || any_part(&["e mail", "email", "почт", "эл адрес"])
    {
        return (!any(&["type", "label", "display", "name", "typ", "тип"])).then_some(Kind::Email);
    }
    let mobile = any(&[
        "mobile",
        "mob",
        "cell",
        "cellular",
        "cellphone",
        "mobil",
        "handy",
        "portable",
        "movil",
        "moviles",
        "celular",
        "whatsapp",
        "wa",
        "gsm",
        "iphone",
        "sms",
    ]) || any_part(&[
        "mobiltel",
        "mobilnum",
        "mobilfunk",
        "handynum",
        "мобил",
        "сотов",
        "моб тел",
        "ватсап",
    ]);
    let phone = any(&[
        "phone",
        "phones",
        "phonenumber",
        "telephone",
        "telephones",
        "tel",
        "telefono",
        "telefonos",
        "fon",
        "msisdn",
        "phone1",
        "phone2",
        "phone3",
        "тел",
    ]) || any_part(&["telefon", "rufnummer", "телефон", "phone number", "mobilephone"]);
    if phone || mobile {
        if any(&["type", "label", "typ", "тип", "etiquette"]) {
            return Some(Kind::PhoneLabel);
        }
        // Numbers of machines and of other people.
        let another = any(&[
            "fax",
            "telecopie",
            "факс",
            "pager",
            "assistant",
            "assistants",
            "company",
            "entreprise",
            "radio",
            "tty",
            "tdd",
            "telex",
            "extension",
            "ext",
            "verified",
            "provider",
            "carrier",
            "name",
            "nom",
        ]) || (any(&["code"]) && !any(&["number", "with"]));
        return (!another).then_some(Kind::Phone { mobile });
    }
    if any(&["country", "pays", "страна", "land", "pais", "countrycode"]) {
        // Where somebody lives doesn't say from where her number is dialled.
        let address = any(&["address", "home", "business", "other", "adresse", "work", "mailing"]);
        return (!address).then_some(Kind::Country);
    }
    match name.as_str() {
        "name"
        | "full name"
        | "fullname"
        | "display name"
        | "displayname"
        | "contact name"
        | "contact"
        | "customer"
        | "customer name"
        | "client"
        | "nom complet"
        | "nom et prenom"
        | "nom prenom"
        | "prenom et nom"
        | "фио"
        | "ф и о"
        | "полное имя"
        | "контакт"
        | "клиент"
        | "имя и фамилия"
        | "vollstandiger name"
        | "kontakt"
        | "kunde"
        | "nombre completo"
        | "nombre y apellidos"
        | "cliente"
        | "contacto" => Some(Kind::FullName),
        "first name" | "firstname" | "given name" | "givenname" | "forename" | "prenom" | "имя"
        | "vorname" | "nombre" | "nombres" | "first" => Some(Kind::GivenName),
        "middle name" | "middlename" | "additional name" | "отчество" | "deuxieme prenom"
        | "weitere vornamen" | "segundo nombre" => Some(Kind::MiddleName),
        "last name" | "lastname" | "family name" | "familyname" | "surname" | "nom"
        | "nom de famille" | "фамилия" | "nachname" | "familienname" | "apellido" | "apellidos"
        | "last" => Some(Kind::FamilyName),
        _ => None,
    }
}

/// Whether a number's label (`Mobile`, `_$!<Mobile>!$_`, `iPhone`) says that it is a mobile one.
pub(super) fn is_mobile_label(label: &str) -> bool {
    matches!(kind(label), Some(Kind::Phone { mobile: true }))
}

/// Whether a number's label says that no person answers there (`Work Fax`, `Pager`).
pub(super) fn is_machine_label(label: &str) -> bool {
    let label = normalise(label);
    ["fax", "pager", "факс", "пейджер"].iter().any(|word| label.contains(word))
}
