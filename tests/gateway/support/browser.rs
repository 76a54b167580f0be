//! A headless Chromium by ChromeDriver. Where there is none (`chromium` and `chromium-driver` of Debian)
//! the tests that want it are left out; `.ci/run` installs it if it can.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use url::{ParseError, Url};

use super::gateway::{free_port, wait_until};

/// Keys by WebDriver's code points.
pub mod key {
    pub const TAB: char = '\u{e004}';
    pub const ENTER: char = '\u{e007}';
    pub const ESCAPE: char = '\u{e00c}';
    pub const END: char = '\u{e010}';
    pub const HOME: char = '\u{e011}';
    pub const LEFT: char = '\u{e012}';
    pub const RIGHT: char = '\u{e014}';
    pub const DOWN: char = '\u{e015}';
}

/// A request of Chromium's own beside the standard's.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

/// A browser with an empty profile; ended when dropped.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    client: Client,
    runtime: Runtime,
    _profile: TempDir,
}

impl Browser {
    /// None: there is no browser here, and the test is to be left out.
    pub fn start() -> Option<Browser> {
        let there =
            |name: &str| Command::new(name).arg("--version").stderr(Stdio::null()).output().is_ok();
        if !there("chromedriver") || !there("chromium") {
            eprintln!("no chromium with chromedriver here: the tests of the page are left out");
            return None;
        }
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver starts");
        wait_until("a chromedriver", || TcpStream::connect(address).is_ok());
        let profile = TempDir::new().expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities(&profile))
                .connect(&format!("http://{address}/")),
        );
        let client = client.unwrap_or_else(|error| panic!("no session: {error}"));
        let session = runtime.block_on(client.session_id()).expect("an answer");
        let session = session.expect("a session has a name");
        let browser = Browser { driver, address, session, client, runtime, _profile: profile };
        browser.viewport(1280, 900);
        Some(browser)
    }

    /// Open a page.
    pub fn open(&self, url: &str) {
        // A page of which only what follows `#` differs would not be loaded anew.
        self.run(self.client.goto("about:blank"));
        self.run(self.client.goto(url));
    }

    fn run<T, E: std::fmt::Display>(&self, work: impl Future<Output = Result<T, E>>) -> T {
        let bounded = async { tokio::time::timeout(Duration::from_secs(30), work).await };
        match self.runtime.block_on(bounded) {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => panic!("the browser refused: {error}"),
            Err(_) => panic!("the browser does not answer"),
        }
    }

    /// The value of an expression of JavaScript on the page.
    pub fn value(&self, expression: &str) -> Value {
        self.run(self.client.execute(&format!("return ({expression})"), Vec::new()))
    }

    /// The text of an element, empty when there is none.
    pub fn text(&self, selector: &str) -> String {
        // Pictures have no innerText.
        let script = format!(
            "((one) => one?.innerText ?? one?.textContent ?? '')(document.querySelector({}))",
            json!(selector)
        );
        self.value(&script).as_str().unwrap_or_default().to_owned()
    }

    /// How many elements there are.
    pub fn count(&self, selector: &str) -> u64 {
        let script = format!("document.querySelectorAll({}).length", json!(selector));
        self.value(&script).as_u64().expect("a number")
    }

    /// Wait until an expression is true.
    #[track_caller]
    pub fn wait_for(&self, expression: &str) {
        wait_until(expression, || self.value(expression) == json!(true));
    }

    /// Wait until the text of an element contains this.
    #[track_caller]
    pub fn wait_for_text(&self, selector: &str, part: &str) {
        wait_until(&format!("{part:?} in {selector}"), || self.text(selector).contains(part));
    }

    /// Click as a user does: on what is in sight.
    pub fn click(&self, selector: &str) {
        self.run(async { self.client.find(Locator::Css(selector)).await?.click().await });
    }

    /// Click the button with this text.
    pub fn click_button(&self, text: &str) {
        let path = format!("//button[normalize-space()='{text}']");
        self.run(async { self.client.find(Locator::XPath(&path)).await?.click().await });
    }

    /// Replace the text of a field by typing.
    pub fn fill(&self, selector: &str, text: &str) {
        self.run(async {
            let field = self.client.find(Locator::Css(selector)).await?;
            field.clear().await?;
            field.send_keys(text).await
        });
    }

    /// Choose an option of a list by its value.
    pub fn choose(&self, selector: &str, value: &str) {
        self.run(async {
            self.client.find(Locator::Css(selector)).await?.select_by_value(value).await
        });
    }

    /// Press and release a key; it goes to what has the focus.
    pub fn press(&self, value: char) {
        let actions = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value });
        self.run(self.client.perform_actions(actions));
    }

    /// Size of the page in CSS pixels; a window cannot be as narrow as a phone.
    pub fn viewport(&self, width: u32, height: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// What the user prefers, `prefers-color-scheme` and the like.
    pub fn prefer(&self, feature: &str, value: &str) {
        let features = json!({"features": [{"name": feature, "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({"cmd": command, "params": parameters});
        self.run(self.client.issue_cmd(Extension { path: "goog/cdp/execute", body }));
    }

    /// What the console was told since the last call: errors of scripts, what the policy forbade.
    pub fn complaints(&self) -> Vec<String> {
        let log = Extension { path: "se/log", body: json!({"type": "browser"}) };
        let entries = self.run(self.client.issue_cmd(log));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let grave = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        grave.map(|entry| entry["message"].to_string()).collect()
    }
}

fn capabilities(profile: &TempDir) -> Capabilities {
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        // Nothing but the page may be asked for.
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
    arguments.push(format!("--user-data-dir={}", profile.path().display()));
    let wanted = json!({
        "browserName": "chrome",
        "goog:chromeOptions": {"args": arguments},
        "goog:loggingPrefs": {"browser": "ALL"},
    });
    wanted.as_object().cloned().expect("an object")
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with its session, and leaves it when it is killed.
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(
                stream,
                "DELETE /session/{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.session, self.address
            );
            let _ = stream.read(&mut [0; 1024]);
        }
        // SAFETY: a plain system call on the group of our own child, which has not been waited for.
        unsafe { libc::kill(-(self.driver.id() as libc::pid_t), libc::SIGKILL) };
        let _ = self.driver.wait();
    }
}
