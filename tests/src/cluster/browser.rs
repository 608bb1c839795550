//! A browser without scripts: it opens pages, presses buttons and keeps one cookie. It counts what a
//! person would have to do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Cluster;

/// Somebody's browser.
pub struct Browser {
    http: reqwest::Client,
    base: String,
    cookie: Option<String>,
    /// The page before her.
    pub page: String,
    /// Its status.
    pub status: u16,
    /// How many buttons she has pressed.
    pub presses: usize,
    typed: BTreeMap<String, String>,
}

impl Cluster {
    /// A browser that has opened no page yet.
    pub fn browser(&self) -> Browser {
        self.browser_at("console")
    }

    /// One that goes to this replica of the console.
    pub fn browser_at(&self, console: &str) -> Browser {
        let seconds = Duration::from_secs;
        Browser {
            http: assent_http::client::http_client(seconds(2), seconds(30)).unwrap(),
            base: self.url(console),
            cookie: None,
            page: String::new(),
            status: 0,
            presses: 0,
            typed: BTreeMap::new(),
        }
    }
}

impl Browser {
    /// Opens a page, at its whole address or its path.
    pub async fn open(&mut self, address: &str) -> &mut Self {
        let path = address.strip_prefix(&self.base).unwrap_or(address);
        let request = self.http.get(format!("{}{path}", self.base));
        self.send(request).await;
        self
    }

    /// Goes on at another replica of the console, with the page before her and the cookie.
    pub fn goes_on_at(&mut self, cluster: &Cluster, console: &str) {
        self.base = cluster.url(console);
    }

    /// A file behind a link of the page.
    pub async fn download(&self, path: &str) -> (String, Vec<u8>) {
        let mut request = self.http.get(format!("{}{path}", self.base));
        request = request.header("cookie", self.cookie.clone().unwrap_or_default());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, answer.bytes().await.unwrap().to_vec())
    }

    /// Presses the first button of the page that says this.
    pub async fn press(&mut self, label: &str) -> &mut Self {
        let mut form = self.form_with(label).unwrap_or_else(|| panic!("{label}: {}", self.page));
        form.fields.append(&mut self.typed);
        self.presses += 1;
        let body: Vec<String> = form
            .fields
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        let request = self
            .http
            .post(format!("{}{}", self.base, form.action))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        self.send(request).await;
        self
    }

    /// Types something into a field, for the next button.
    pub fn types(&mut self, name: &str, value: &str) -> &mut Self {
        self.typed.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Whether there is a button that says this.
    pub fn has_button(&self, label: &str) -> bool {
        self.form_with(label).is_some()
    }

    /// The message that the page has prepared.
    pub fn prepared(&self) -> String {
        let (_, rest) = self.page.split_once("<strong>").expect("a prepared message");
        rest.split("</strong>").next().unwrap_or_default().to_owned()
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) {
        let cookie = self.cookie.clone().unwrap_or_default();
        let answer = request.header("cookie", cookie).send().await.expect("the console answers");
        let headers = answer.headers().clone();
        for header in ["content-security-policy", "referrer-policy"] {
            assert!(headers.contains_key(header), "{header}");
        }
        assert_eq!(headers["cache-control"], "no-store");
        if let Some(cookie) = headers.get("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        self.status = answer.status().as_u16();
        if let Some(place) = headers.get("location") {
            let place = place.to_str().unwrap().to_owned();
            Box::pin(self.open(&place)).await;
            return;
        }
        self.page = answer.text().await.unwrap();
        assert!(!self.page.contains("<script"), "{}", self.page);
    }

    fn form_with(&self, label: &str) -> Option<Form> {
        self.page.split("<form ").skip(1).find_map(|rest| {
            let form = rest.split("</form>").next()?;
            let button = form.split("<button").skip(1).find(|it| {
                it.split_once('>')
                    .is_some_and(|(_, it)| it.split("</button>").next() == Some(label))
            })?;
            let hidden = form.split("<input ").skip(1);
            let chosen = button.split('>').next()?;
            let named = hidden
                .chain([chosen])
                .filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)));
            Some(Form { action: attribute(form, "action")?, fields: named.collect() })
        })
    }
}

struct Form {
    action: String,
    fields: BTreeMap<String, String>,
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    rest.split('"').next().map(|value| value.replace("&#38;", "&"))
}
