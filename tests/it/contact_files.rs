//! Contact files as phones and spreadsheets write them, through the binary to what the vault is
//! asked. All people are invented, all numbers reserved for fiction.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::command;
use crate::cli::stub::{self, Stub};
use assent_tests::harness::unique;

/// Most memory that an import may take, in KiB, whatever the file's size.
const MEMORY_KIB_MAX: u64 = 64 * 1024;

async fn vault() -> Stub {
    Stub::start(|_, body| {
        let rows = body["rows"].as_array().map_or(0, Vec::len);
        let created =
            json!({"outcome": "created", "subject_id": "7b0c9f1e-3c1e-4c1c-9d43-2f3a6c9d1e11"});
        stub::ok(json!({"outcomes": vec![created; rows]}))
    })
    .await
}

fn file(content: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(unique("contacts"));
    std::fs::write(&path, content).expect("a temporary file");
    path
}

/// What the vault is asked for a file.
async fn rows(content: &[u8], country: &str) -> Vec<Value> {
    let stub = vault().await;
    let path = file(content);
    let mut import = command(&stub.url);
    import.arg("import").arg(&path).args(["--country", country, "--json"]);
    let output = stub.run(&mut import).await;
    std::fs::remove_file(path).expect("it was there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    stub.asked()
        .iter()
        .flat_map(|asked| asked.body["rows"].as_array().cloned().unwrap_or_default())
        .collect()
}

#[tokio::test]
async fn an_excel_file_in_utf16_with_tabs_comes_in() {
    let text =
        "Фамилия\tИмя\tМобильный телефон\tСтрана\r\nПробная\tИрина\t8 900 000-00-01\tРоссия\r\n";
    let bytes: Vec<u8> =
        [0xFEFF].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        rows(&bytes, "FR").await,
        [json!({"phone": "8 900 000-00-01", "country": "RU", "name": "Ирина Пробная"})]
    );
}

#[tokio::test]
async fn a_windows_1251_file_with_semicolons_comes_in() {
    let mut bytes = "name;phone\n".to_owned().into_bytes();
    // «Ирина Пробная» in Windows-1251.
    bytes.extend(b"\xC8\xF0\xE8\xED\xE0 \xCF\xF0\xEE\xE1\xED\xE0\xFF;+79000000001\n");
    assert_eq!(
        rows(&bytes, "RU").await,
        [json!({"phone": "+79000000001", "country": "RU", "name": "Ирина Пробная"})]
    );
}

#[tokio::test]
async fn a_google_export_comes_in_by_the_mobile_number() {
    let csv = "First Name,Last Name,Notes,Phone 1 - Label,Phone 1 - Value,Phone 2 - Label,Phone 2 - Value\n\
        Zoé,Testard,\"two\nlines\",Home,01 99 00 12 34,Mobile,06 39 98 00 01\n";
    assert_eq!(
        rows(csv.as_bytes(), "FR").await,
        [json!({"phone": "06 39 98 00 01", "country": "FR", "name": "Zoé Testard"})]
    );
}

#[tokio::test]
async fn an_iphone_vcard_comes_in() {
    let vcard = "BEGIN:VCARD\r\nVERSION:3.0\r\nN:Placeholder;Pat;;;\r\nFN:Pat Placeholder\r\n\
        item1.TEL;type=pref:07700 900001\r\nitem1.X-ABLabel:iPhone\r\n\
        TEL;type=WORK;type=VOICE:020 7946 0001\r\nEND:VCARD\r\n";
    assert_eq!(
        rows(vcard.as_bytes(), "GB").await,
        [json!({"phone": "07700 900001", "country": "GB", "name": "Pat Placeholder"})]
    );
}

#[tokio::test]
async fn memory_stays_flat_over_a_large_file() {
    const ROWS: usize = 300_000;
    let mut csv = "name,phone,email\n".to_owned();
    for row in 0..ROWS {
        let _ = writeln!(csv, "Person {row},+447700{row:06},person{row}@example.org");
    }
    let path = file(csv.as_bytes());
    let stub = vault().await;
    let mut child = command(&stub.url)
        .arg("import")
        .arg(&path)
        .arg("--json")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0;
    while child.try_wait().expect("ours").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(peak.unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = child.wait_with_output().expect("it ended");
    std::fs::remove_file(path).expect("it was there");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["created"], ROWS);
    assert!(most > 0, "the memory was looked at");
    assert!(most < MEMORY_KIB_MAX, "{most} KiB");
}
