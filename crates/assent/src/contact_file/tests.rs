//! Files of invented people; all numbers are from ranges reserved for fiction.

use std::io::{Cursor, Read};

use super::*;

/// What a test reads off a row: `Ok(line, phones, name)` or `Err(line, column, code)`.
type Seen = Result<(u64, Vec<String>, Option<String>), (u64, u64, &'static str)>;

fn open(bytes: impl Into<Vec<u8>>) -> ContactReader {
    open_with(bytes, Options::default()).unwrap()
}

fn open_with(bytes: impl Into<Vec<u8>>, options: Options) -> Result<ContactReader, FileError> {
    ContactReader::open(Box::new(Cursor::new(bytes.into())), options)
}

fn seen(reader: &mut ContactReader) -> Vec<Seen> {
    rows(reader)
        .into_iter()
        .map(|row| match row {
            Row::Contact(contact) => Ok((
                contact.place.line,
                contact.phones.into_iter().map(|phone| phone.text).collect(),
                contact.name.map(|name| name.text),
            )),
            Row::Bad(bad) => Err((bad.place.line, bad.place.column, bad.reason.code())),
        })
        .collect()
}

fn rows(reader: &mut ContactReader) -> Vec<Row> {
    std::iter::from_fn(|| reader.next_row().unwrap()).collect()
}

fn contacts(bytes: impl Into<Vec<u8>>) -> Vec<Contact> {
    rows(&mut open(bytes))
        .into_iter()
        .map(|row| match row {
            Row::Contact(contact) => contact,
            Row::Bad(bad) => panic!("line {}: {}", bad.place.line, bad.reason.code()),
        })
        .collect()
}

fn ok(line: u64, phone: &str, name: &str) -> Seen {
    let name = (!name.is_empty()).then(|| name.to_owned());
    Ok((line, vec![phone.to_owned()], name))
}

fn map(text: &str) -> ColumnMap {
    text.parse().unwrap()
}

#[test]
fn every_delimiter_is_found() {
    for delimiter in [",", ";", "\t", "|"] {
        let file = ["Name;Phone", "Zoé Testard;+33 6 39 98 00 01", "Max Probe;06 39 98 00 02", ""]
            .join("\n")
            .replace(';', delimiter);
        assert_eq!(
            seen(&mut open(file)),
            [ok(2, "+33 6 39 98 00 01", "Zoé Testard"), ok(3, "06 39 98 00 02", "Max Probe")],
            "{delimiter:?}"
        );
    }
}

#[test]
fn a_comma_inside_names_does_not_win_over_the_semicolon() {
    let file = "Nom;Téléphone;Ville\nTestard, Zoé;0639980001;Lyon, France\nProbe, Max;0639980002;Metz, France\n";
    assert_eq!(
        seen(&mut open(file)),
        [ok(2, "0639980001", "Testard, Zoé"), ok(3, "0639980002", "Probe, Max")]
    );
}

#[test]
fn excel_declares_its_delimiter() {
    let file = "sep=;\r\nPhone;Name\r\n+447700900001;Pat Placeholder\r\n";
    assert_eq!(seen(&mut open(file)), [ok(3, "+447700900001", "Pat Placeholder")]);
}

#[test]
fn every_encoding_is_told_from_the_others() {
    let cyrillic = "Имя;Фамилия;Мобильный телефон\nИрина;Пробная;8 (900) 000-00-01\nЁлка;Тестова;+7 900 000-00-02\n";
    let latin = "Prénom;Nom;Téléphone\nZoé;Lefèvre-Exemple;+33 6 39 98 00 01\nAnaïs;Été;+33 6 39 98 00 02\n";
    let utf16 = |text: &str, big: bool| -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() })
            .collect()
    };
    let marked = |mark: &[u8], bytes: Vec<u8>| [mark, &bytes].concat();
    let variants = |text: &str| {
        vec![
            ("UTF-8", text.as_bytes().to_vec()),
            ("UTF-8 BOM", marked(b"\xEF\xBB\xBF", text.as_bytes().to_vec())),
            ("UTF-16LE BOM", marked(b"\xFF\xFE", utf16(text, false))),
            ("UTF-16BE BOM", marked(b"\xFE\xFF", utf16(text, true))),
            ("UTF-16LE", utf16(text, false)),
            ("UTF-16BE", utf16(text, true)),
        ]
    };
    let mut files = variants(cyrillic);
    files.push(("Windows-1251", encoding_rs::WINDOWS_1251.encode(cyrillic).0.into_owned()));
    for (encoding, file) in files {
        let rows = seen(&mut open(file));
        let expected = [
            ok(2, "8 (900) 000-00-01", "Ирина Пробная"),
            ok(3, "+7 900 000-00-02", "Ёлка Тестова"),
        ];
        assert_eq!(rows, expected, "{encoding}");
    }
    let mut files = variants(latin);
    files.push(("Latin-1", encoding_rs::WINDOWS_1252.encode(latin).0.into_owned()));
    for (encoding, file) in files {
        let rows = seen(&mut open(file));
        let expected = [
            ok(2, "+33 6 39 98 00 01", "Zoé Lefèvre-Exemple"),
            ok(3, "+33 6 39 98 00 02", "Anaïs Été"),
        ];
        assert_eq!(rows, expected, "{encoding}");
    }
}

#[test]
fn the_encoding_shows_even_if_the_first_accent_comes_late() {
    let mut file = b"name,phone\n".to_vec();
    for row in 0..5_000 {
        file.extend(format!("Person {row},+4477009{:05}\n", row % 1000).bytes());
    }
    file.extend(b"Ana\xEFs Exemple,+33639980001\n");
    let rows = seen(&mut open(file));
    assert_eq!(rows.last().unwrap(), &ok(5_002, "+33639980001", "Anaïs Exemple"));
}

#[test]
fn a_named_encoding_wins() {
    let bytes = encoding_rs::KOI8_R.encode("имя,телефон\nИрина,+79000000001\n").0.into_owned();
    let options = Options { encoding: Some(encoding_rs::KOI8_R), ..Options::default() };
    let rows = seen(&mut open_with(bytes, options).unwrap());
    assert_eq!(rows, [ok(2, "+79000000001", "Ирина")]);
}

#[test]
fn broken_bytes_cost_their_own_row() {
    let mut file =
        "name,phone\nZoé,+33639980001\nÉté,+33639980002\nÇa,+33639980003\n".as_bytes().to_vec();
    for name in ["Ève", "Ólaf", "Łucja", "Šárka", "Ždímal"] {
        file.extend(format!("{name},+33639980004\n").bytes());
    }
    file.extend(b"Br\xFFken,+33639980005\nMax,+33639980006\n");
    let rows = seen(&mut open(file));
    assert_eq!(rows[8], Err((10, 1, "encoding_invalid")));
    assert_eq!(rows[9], ok(11, "+33639980006", "Max"));
}

#[test]
fn line_numbers_are_physical() {
    let file = "\r\nname,phone,note\r\n\r\nZoé,+33639980001,\"two\r\nlines\"\r\n\r\nMax,,\r\nPat,+447700900001,\r\n";
    assert_eq!(
        seen(&mut open(file)),
        [ok(4, "+33639980001", "Zoé"), Err((7, 2, "phone_missing")), ok(8, "+447700900001", "Pat")]
    );
    let macintosh = "name,phone\rZoé,+33639980001\rMax,+33639980002\r";
    assert_eq!(
        seen(&mut open(macintosh)),
        [ok(2, "+33639980001", "Zoé"), ok(3, "+33639980002", "Max")]
    );
}

#[test]
fn an_open_quote_costs_its_own_row() {
    let file = "name,phone\n\"Zoé,+33639980001\nMax,+33639980002\n\"Pat \"\"P\"\" P.\",+447700900001\n\"Last,+33639980003";
    assert_eq!(
        seen(&mut open(file)),
        [
            Err((2, 1, "quote_unclosed")),
            ok(3, "+33639980002", "Max"),
            ok(4, "+447700900001", "Pat \"P\" P."),
            Err((5, 1, "quote_unclosed")),
        ]
    );
}

#[test]
fn an_open_quote_in_a_long_file_costs_its_own_row_in_flat_memory() {
    let mut file = "name,phone\nZoé,\"+33639980001\n".to_owned();
    for _ in 0..60_000 {
        file.push_str("Max,+33639980002\n");
    }
    let mut reader = open(file);
    let mut rows = 0;
    while let Some(row) = reader.next_row().unwrap() {
        rows += 1;
        if rows == 1 {
            assert!(
                matches!(row, Row::Bad(bad) if bad.reason == Reason::QuoteUnclosed && bad.place.column == 2)
            );
        }
    }
    assert_eq!(rows, 60_001);
    assert!(reader.memory_bytes() < 8 * RECORD_BYTES_MAX);
}

#[test]
fn too_long_a_row_is_passed_over() {
    let long = "x".repeat(3 * RECORD_BYTES_MAX);
    let file = format!("name,phone\n{long},+33639980001\nMax,+33639980002\n");
    assert_eq!(
        seen(&mut open(file)),
        [Err((2, 1, "record_too_long")), ok(3, "+33639980002", "Max")]
    );
}

#[test]
fn a_stray_delimiter_is_reported_with_its_column() {
    let file = "name,phone\nZoé,+33639980001\nMax, Dr.,+33639980002\nPat,+447700900001,,\n";
    assert_eq!(
        seen(&mut open(file)),
        [
            ok(2, "+33639980001", "Zoé"),
            Err((3, 3, "too_many_fields")),
            ok(4, "+447700900001", "Pat")
        ]
    );
}

#[test]
fn headers_of_five_languages_are_understood() {
    let headers = [
        ("First Name,Last Name,Mobile Phone,E-mail Address,Country", "Zoé Testard"),
        ("Prénom,Nom,Tél. mobile,Adresse de messagerie,Pays", "Zoé Testard"),
        ("Имя,Фамилия,Мобильный телефон,Адрес эл. почты,Страна", "Zoé Testard"),
        ("Vorname,Nachname,Handynummer,E-Mail-Adresse,Land", "Zoé Testard"),
        ("Vorname,Name,Mobiltelefon,E-Mail,Land", "Zoé Testard"),
        ("Nombre,Apellidos,Teléfono móvil,Correo electrónico,País", "Zoé Testard"),
    ];
    for (header, name) in headers {
        let file = format!("{header}\nZoé,Testard,06 39 98 00 01,zoe@example.org,France\n");
        let contacts = contacts(file);
        let contact = &contacts[0];
        assert_eq!(contact.phones[0].text, "06 39 98 00 01", "{header}");
        assert_eq!(contact.name.as_ref().unwrap().text, name, "{header}");
        assert_eq!(contact.email.as_ref().unwrap().text, "zoe@example.org", "{header}");
        let country = contact.country.as_ref().unwrap();
        assert_eq!((country.text.as_str(), country.place.column), ("FR", 5), "{header}");
    }
}

#[test]
fn a_google_export_gives_the_mobile_number_first() {
    let file = "First Name,Middle Name,Last Name,E-mail 1 - Label,E-mail 1 - Value,Phone 1 - Label,Phone 1 - Value,Phone 2 - Label,Phone 2 - Value,Phone 3 - Label,Phone 3 - Value,Address 1 - Country\n\
        Zoé,,Testard,* Home,zoe@example.org ::: z@example.org,Work,+33 1 99 00 12 34,Mobile,+33 6 39 98 00 01 ::: +33 6 39 98 00 02,Home Fax,+33 1 99 00 99 99,Atlantis\n";
    let contacts = contacts(file);
    let phones: Vec<&str> = contacts[0].phones.iter().map(|phone| phone.text.as_str()).collect();
    assert_eq!(phones, ["+33 6 39 98 00 01", "+33 6 39 98 00 02", "+33 1 99 00 12 34"]);
    assert_eq!(contacts[0].phones[0].place, Place { line: 2, column: 9 });
    assert_eq!(contacts[0].email.as_ref().unwrap().text, "zoe@example.org");
    assert!(contacts[0].country.is_none());
}

#[test]
fn an_outlook_export_leaves_machines_and_other_people_out() {
    let file = "First Name,Last Name,Business Fax,Business Phone,Assistant's Phone,Home Phone,Mobile Phone,Pager,Home Country/Region\n\
        Pat,Placeholder,+442079460001,+442079460002,+442079460003,,+447700900001,+442079460004,UK\n";
    let contacts = contacts(file);
    let phones: Vec<&str> = contacts[0].phones.iter().map(|phone| phone.text.as_str()).collect();
    assert_eq!(phones, ["+447700900001", "+442079460002"]);
}

#[test]
fn a_file_without_a_header_is_guessed_by_content() {
    let file = "Zoé Testard;2024-05-03;06 39 98 00 01\nMax Probe;2024-05-04;06 39 98 00 02\n";
    assert_eq!(seen(&mut open(file)), [ok(1, "06 39 98 00 01", ""), ok(2, "06 39 98 00 02", "")]);
    let list = "+33 6 39 98 00 01\n+33 6 39 98 00 02\n";
    assert_eq!(
        seen(&mut open(list)),
        [ok(1, "+33 6 39 98 00 01", ""), ok(2, "+33 6 39 98 00 02", "")]
    );
}

#[test]
fn the_operator_names_columns_by_name_or_number() {
    let file = "id,contact no,full,phone\n7,+33639980001,Zoé Testard,123\n";
    for phone in ["phone=Contact No", "phone=2"] {
        let options = Options {
            map: ColumnMap::all(vec![map(phone), map("name=full")]),
            ..Options::default()
        };
        let rows = seen(&mut open_with(file, options).unwrap());
        assert_eq!(rows, [ok(2, "+33639980001", "Zoé Testard")], "{phone}");
    }
    let options = Options { map: map("phone=9"), ..Options::default() };
    assert!(matches!(
        open_with(file, options),
        Err(FileError::NoSuchColumn { field: "phone", .. })
    ));
    assert!("shoe=1".parse::<ColumnMap>().is_err());
    assert!("phone=".parse::<ColumnMap>().is_err());
}

#[test]
fn what_is_no_contact_file_is_said_in_one_sentence() {
    let error = |bytes: &[u8]| open_with(bytes, Options::default()).err().unwrap();
    assert!(matches!(error(b""), FileError::Empty));
    assert!(matches!(error(b"\n \n"), FileError::Empty));
    assert!(matches!(error(b"PK\x03\x04rest"), FileError::Workbook));
    assert!(matches!(error(b"[{\"phone\":1}]"), FileError::JsonArray));
    assert!(matches!(error(b"name,city\nZoe,Lyon\n"), FileError::NoPhoneColumn { columns: 2 }));
}

#[test]
fn what_spreadsheets_do_to_numbers_is_undone_or_told() {
    let file = "phone,name\n\"=\"\"+33639980001\"\"\",Zoé\n'0639980002,Max\n3.36399E+10,Pat\n\"3,36399E+10\",Kim\n";
    assert_eq!(
        seen(&mut open(file)),
        [
            ok(2, "+33639980001", "Zoé"),
            ok(3, "0639980002", "Max"),
            Err((4, 1, "phone_scientific")),
            Err((5, 1, "phone_scientific")),
        ]
    );
}

#[test]
fn an_unknown_country_matters_only_beside_a_national_number() {
    let file =
        "phone,country\n0639980001,Atlantis\n+33639980002,Atlantis\n0639980003,fr\n0639980004,\n";
    let mut reader = open(file);
    let rows = rows(&mut reader);
    assert!(
        matches!(&rows[0], Row::Bad(bad) if bad.reason == Reason::CountryUnknown && bad.place.column == 2)
    );
    let country = |row: &Row| match row {
        Row::Contact(contact) => contact.country.as_ref().map(|cell| cell.text.clone()),
        Row::Bad(_) => panic!("bad row"),
    };
    assert_eq!(country(&rows[1]), None);
    assert_eq!(country(&rows[2]).as_deref(), Some("FR"));
    assert_eq!(country(&rows[3]), None);
}

#[test]
fn json_lines_use_the_same_names() {
    let file = "{\"name\":\"Zoé\",\"phone\":\"+33639980001\",\"email\":\"zoe@example.org\"}\n\
        {\"Имя\":\"Ирина\",\"Телефон\":79000000001}\n\
        \n\
        {\"phone\": oops}\n\
        {\"name\":\"Max\"}\n\
        [1]\n\
        {\"phones\":[\"+447700900001\",\"+447700900002\"]}\n";
    let rows = seen(&mut open(file));
    assert_eq!(rows[0], ok(1, "+33639980001", "Zoé"));
    assert_eq!(rows[1], ok(2, "79000000001", "Ирина"));
    assert!(matches!(rows[2], Err((4, 11.., "json_invalid"))), "{:?}", rows[2]);
    assert_eq!(rows[3], Err((5, 1, "phone_missing")));
    assert!(matches!(rows[4], Err((6, _, "json_invalid"))));
    let both = vec!["+447700900001".to_owned(), "+447700900002".to_owned()];
    assert_eq!(rows[5], Ok((7, both, None)));
}

#[test]
fn vcards_of_all_versions_are_read() {
    let file = "BEGIN:VCARD\r\nVERSION:2.1\r\n\
        N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=D0=9F=D1=80=D0=BE=D0=B1=D0=BD=D0=B0=D1=8F;=\r\n=D0=98=D1=80=D0=B8=D0=BD=D0=B0;;;\r\n\
        TEL;HOME:+7 900 000-00-01\r\nTEL;CELL;PREF:+7 900 000-00-02\r\nEND:VCARD\r\n\
        begin:vcard\r\nVERSION:3.0\r\nFN:Zoé Tes\r\n tard\r\n\
        PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQSkZJRgABAQAAAQABAAD\r\n BEGINAAAA\r\n\
        TEL;type=WORK;type=FAX:+33 1 99 00 99 99\r\n\
        item1.TEL;type=pref:+33 6 39 98 00 01\r\nitem1.X-ABLabel:iPhone\r\nEMAIL:zoe@example.org\r\nEND:VCARD\r\n\
        BEGIN:VCARD\nVERSION:4.0\nFN:Pat Placeholder\nTEL;VALUE=uri;TYPE=\"voice,home\":tel:+44-20-7946-0001\n\
        TEL;VALUE=uri;PREF=1;TYPE=\"voice,cell\":tel:+44-7700-900001;ext=1\nEND:VCARD\n";
    let mut reader = open(file);
    assert_eq!(reader.format(), Format::Vcard);
    let rows = rows(&mut reader);
    let read: Vec<_> = rows
        .iter()
        .map(|row| match row {
            Row::Contact(contact) => (
                contact.place.line,
                contact
                    .phones
                    .iter()
                    .map(|phone| (phone.text.as_str(), phone.place.line))
                    .collect::<Vec<_>>(),
                contact.name.as_ref().map(|name| name.text.as_str()),
            ),
            Row::Bad(bad) => panic!("{} {}", bad.place.line, bad.reason.code()),
        })
        .collect();
    assert_eq!(
        read,
        [
            (1, vec![("+7 900 000-00-02", 6), ("+7 900 000-00-01", 5)], Some("Ирина Пробная")),
            (8, vec![("+33 6 39 98 00 01", 15)], Some("Zoé Testard")),
            (19, vec![("+44-7700-900001", 23), ("+44-20-7946-0001", 22)], Some("Pat Placeholder")),
        ]
    );
}

#[test]
fn phones_write_utf8_where_the_vcard_standard_says_latin1() {
    let file = "BEGIN:VCARD\nVERSION:2.1\nFN;ENCODING=QUOTED-PRINTABLE:Zo=C3=A9\nTEL;CELL:+33639980001\nEND:VCARD\n\
        BEGIN:VCARD\nVERSION:2.1\nFN;ENCODING=QUOTED-PRINTABLE:Zo=E9\nTEL;CELL:+33639980002\nEND:VCARD\n";
    assert_eq!(seen(&mut open(file)), [ok(1, "+33639980001", "Zoé"), ok(6, "+33639980002", "Zoé")]);
}

#[test]
fn broken_vcards_cost_their_own_row() {
    let file = "BEGIN:VCARD\nVERSION:3.0\nFN:Zoé\nTEL:+33639980001\n\
        BEGIN:VCARD\nVERSION:3.0\nFN:Max\nTEL:+33639980002\nEND:VCARD\n\
        stray text\nmore of it\n\
        BEGIN:VCARD\nVERSION:3.0\nFN:Nobody\nEND:VCARD\n\
        BEGIN:VCARD\nVERSION:3.0\nTEL:+33639980003\n";
    assert_eq!(
        seen(&mut open(file)),
        [
            Err((1, 1, "vcard_unterminated")),
            ok(5, "+33639980002", "Max"),
            Err((10, 1, "vcard_expected")),
            Err((12, 1, "phone_missing")),
            Err((16, 1, "vcard_unterminated")),
        ]
    );
}

#[test]
fn pictures_of_vcards_never_reach_memory() {
    let picture = "QUJD".repeat(20).as_str().to_owned() + "\r\n ";
    let file = format!(
        "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Zoé\r\nPHOTO;ENCODING=b:{}\r\nTEL:+33639980001\r\nEND:VCARD\r\n\
         BEGIN:VCARD\r\nVERSION:2.1\r\nPHOTO;JPEG;ENCODING=BASE64:{}\r\n\r\nTEL;CELL:+33639980002\r\nFN:Max\r\nEND:VCARD\r\n",
        picture.repeat(20_000),
        "QUJD".repeat(300_000),
    );
    let mut reader = open(file);
    let rows = seen(&mut reader);
    assert_eq!(rows[0], ok(1, "+33639980001", "Zoé"));
    assert!(
        matches!(&rows[1], Ok((_, phones, Some(name))) if phones[0] == "+33639980002" && name == "Max")
    );
    assert!(reader.memory_bytes() < 4 * RECORD_BYTES_MAX, "{}", reader.memory_bytes());
}

#[test]
fn raw_rows_are_kept_only_on_request() {
    let file = "name,phone\nZoé,\nMax,+33639980001\n";
    let options = Options { keep_raw: true, ..Options::default() };
    let mut reader = open_with(file, options).unwrap();
    assert_eq!(reader.header(), Some("name,phone"));
    assert!(matches!(reader.next_row().unwrap(), Some(Row::Bad(bad)) if bad.raw == "Zoé,"));
    assert!(matches!(open(file).next_row().unwrap(), Some(Row::Bad(bad)) if bad.raw.is_empty()));
}

/// Writes rows without end, as they are asked for.
struct Generated {
    rows: u64,
    row: fn(u64) -> String,
    next: u64,
    pending: Cursor<Vec<u8>>,
}

impl Read for Generated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.pending.read(buffer)?;
        if read > 0 || self.next == self.rows {
            return Ok(read);
        }
        self.pending = Cursor::new((self.row)(self.next).into_bytes());
        self.next += 1;
        self.pending.read(buffer)
    }
}

#[test]
fn memory_stays_flat_whatever_the_size() {
    let formats: [fn(u64) -> String; 3] = [
        |row| match row {
            0 => "Имя;Телефон;Примечание\n".to_owned(),
            row => format!("\"Персона {row}\";+7 900 {:07};\"две\nстроки\"\n", row % 10_000_000),
        },
        |row| {
            format!("{{\"phone\":\"+7900{:07}\",\"name\":\"Персона {row}\"}}\n", row % 10_000_000)
        },
        |row| {
            format!(
                "BEGIN:VCARD\nVERSION:3.0\nFN:Персона {row}\nTEL:+7900{:07}\nEND:VCARD\n",
                row % 10_000_000
            )
        },
    ];
    for row in formats {
        let source = Generated { rows: 200_000, row, next: 0, pending: Cursor::new(Vec::new()) };
        let mut reader = ContactReader::open(Box::new(source), Options::default()).unwrap();
        let mut contacts = 0_u64;
        let mut most = 0;
        while let Some(row) = reader.next_row().unwrap() {
            assert!(matches!(row, Row::Contact(_)));
            contacts += 1;
            most = most.max(reader.memory_bytes());
        }
        let expected = if reader.format() == Format::Delimited { 199_999 } else { 200_000 };
        assert_eq!(contacts, expected);
        assert!(most < 1024 * 1024, "{most} bytes");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn field() -> impl Strategy<Value = String> {
        proptest::string::string_regex("[a-zA-Zа-яé ,;\"\n|]{0,12}").unwrap()
    }

    fn quoted(field: &str) -> String {
        format!("\"{}\"", field.replace('"', "\"\""))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        /// Whatever stands in the fields, a quoted file gives back each name and phone.
        #[test]
        fn quoting_is_undone(names in proptest::collection::vec(field(), 1..8), delimiter in "[,;\t|]") {
            let mut file = format!("name{delimiter}phone\n");
            for (row, name) in names.iter().enumerate() {
                file.push_str(&format!("{}{delimiter}+4477009000{row:02}\n", quoted(name)));
            }
            let rows = seen(&mut open(file));
            prop_assert_eq!(rows.len(), names.len());
            for (row, (seen, name)) in rows.into_iter().zip(&names).enumerate() {
                let (_, phones, read) = seen.unwrap();
                prop_assert_eq!(&phones[0], &format!("+4477009000{row:02}"));
                let name = name.trim().trim_start_matches('\'').trim();
                prop_assert_eq!(read.unwrap_or_default(), name);
            }
        }

        /// No bytes whatever make the reader panic or loop.
        #[test]
        fn any_bytes_come_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), start in 0..4_usize) {
            let mut file = [&b""[..], b"BEGIN:VCARD\n", b"{\"phone\":1}\n", b"phone,name\n"][start].to_vec();
            file.extend(bytes);
            if let Ok(mut reader) = open_with(file, Options::default()) {
                let mut rows = 0;
                while let Ok(Some(_)) = reader.next_row() {
                    rows += 1;
                    prop_assert!(rows < 5_000);
                }
            }
        }
    }
}
