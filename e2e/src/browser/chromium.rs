//! A real headless Chromium, driven by the DevTools protocol over a pair of pipes: no port, no driver program, no
//! further dependency.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

/// How long the browser may take for one answer, and a page to get into the state that is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long is waited between two looks at a page.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is told of a page that doesn't get into the state that is waited for.
const SEEN: &str = "location.pathname + ', ' + document.readyState + ', focus on ' \
    + (document.activeElement?.id || document.activeElement?.tagName) + ': ' + document.body?.innerText.slice(0, 300)";

/// A browser with one page.
pub(crate) struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    next_id: u64,
    /// What the page's console, its scripts and its security policy complained about, since it was last taken.
    complaints: Vec<String>,
}

/// What the page is shown on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
    /// What `Accept-Language` says.
    pub(crate) language: &'static str,
}

impl Browser {
    /// Starts Chromium with an empty profile in `folder`.
    pub(crate) fn start(folder: &Utf8Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let log = std::fs::File::create(folder.join("chromium.log"))?;
        // Chromium reads commands from descriptor 3 and answers on 4.
        let mut process = Command::new("bash")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
            .args([
                "chromium",
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
            ])
            .args([
                "--ignore-certificate-errors",
                "--no-first-run",
                "--disable-gpu",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!("--user-data-dir={}", folder.join("profile")))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start Chromium: `cargo xtask setup` installs it")?;
        let commands = process.stdin.take().context("no pipe to Chromium")?;
        let answers = process.stdout.take().context("no pipe from Chromium")?;
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0) {
                let Ok(bytes) = message else { return };
                let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
                    return;
                };
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            process,
            commands,
            messages,
            session: String::new(),
            next_id: 0,
            complaints: Vec::new(),
        };
        browser
            .open_page()
            .context("Chromium doesn't answer: is it installed? `cargo xtask setup` installs it")?;
        Ok(browser)
    }

    fn open_page(&mut self) -> Result<()> {
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attach)?;
        self.session = text(&attached["sessionId"])?;
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    /// Calls a method of the protocol and waits for its answer.
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes)?;
        self.commands.flush()?;
        let started = Instant::now();
        loop {
            let left = ANSWER_MAX.saturating_sub(started.elapsed());
            let message = match self.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("no answer to {method}"),
                Err(RecvTimeoutError::Disconnected) => bail!("Chromium has ended"),
            };
            if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].clone());
            }
            self.note(&message);
        }
    }

    /// Keeps what a page complains about.
    fn note(&mut self, message: &Value) {
        let parameters = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => {
                format!("console: {}", parameters["args"])
            }
            Some("Runtime.exceptionThrown") => {
                let details = &parameters["exceptionDetails"];
                format!(
                    "script: {} {}",
                    details["text"], details["exception"]["description"]
                )
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                let entry = &parameters["entry"];
                format!("browser: {} {}", entry["text"], entry["url"])
            }
            _ => return,
        };
        self.complaints.push(complaint);
    }

    /// What the page complained about since this was last asked.
    pub(crate) fn take_complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    /// Shows pages on this screen from now on.
    pub(crate) fn show_on(&mut self, screen: Screen) -> Result<()> {
        let metrics = json!({
            "width": screen.width, "height": screen.height, "deviceScaleFactor": 1,
            "mobile": screen.width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if screen.dark { "dark" } else { "light" };
        let media = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ] });
        self.call("Emulation.setEmulatedMedia", &media)?;
        let headers = json!({ "headers": { "Accept-Language": screen.language } });
        self.call("Network.setExtraHTTPHeaders", &headers)?;
        Ok(())
    }

    /// Goes to an address and waits until its page and its scripts are there.
    pub(crate) fn go(&mut self, url: &str) -> Result<()> {
        // The page that is left may have the same address, and what is typed into it is lost.
        self.value("window.isLeft = true")?;
        let reply = self.call("Page.navigate", &json!({ "url": url }))?;
        if let Some(error) = reply.get("errorText") {
            bail!("cannot go to {url}: {error}");
        }
        // Without a loader it's the same page, at another place in it.
        let is_new = reply.get("loaderId").map_or("true", |_| "!window.isLeft");
        self.wait(&format!(
            "{is_new} && document.readyState === 'complete' && location.href.startsWith({})",
            json!(
                url.split(['?', '#'])
                    .next()
                    .unwrap_or(url)
                    .trim_end_matches('/')
            )
        ))
        .with_context(|| format!("{url} doesn't load"))
    }

    /// What an expression is worth on the page; promises are waited for.
    pub(crate) fn value(&mut self, expression: &str) -> Result<Value> {
        let asked =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let reply = self.call("Runtime.evaluate", &asked)?;
        if let Some(details) = reply.get("exceptionDetails") {
            bail!("{expression:.120}: {}", details["exception"]["description"]);
        }
        Ok(reply["result"]["value"].clone())
    }

    /// Waits until an expression is true on the page.
    pub(crate) fn wait(&mut self, expression: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            // While a page is being replaced there is nothing to ask.
            if self.value(expression).is_ok_and(|value| value == true) {
                return Ok(());
            }
            if started.elapsed() > ANSWER_MAX {
                let seen = self.value(SEEN).unwrap_or_default();
                bail!("still not so: {expression}; the page is {seen}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until a field has the focus, which a page gives to its first one only when it is drawn.
    pub(crate) fn wait_for_focus(&mut self, field: &str) -> Result<()> {
        self.wait(&format!("document.activeElement?.id === {}", json!(field)))
            .with_context(|| format!("the field `{field}` doesn't get the focus"))
    }

    /// Types text into what has the focus, as a keyboard-wedge scanner does: each key is pressed and released.
    pub(crate) fn type_text(&mut self, text: &str) -> Result<()> {
        for char in text.chars() {
            let char = char.to_string();
            self.key(json!({ "key": char, "text": char }))?;
        }
        Ok(())
    }

    /// Presses and releases a key such as `Tab`, `Enter`, `Escape`, `ArrowDown`, `Control+z`.
    pub(crate) fn press(&mut self, key: &str) -> Result<()> {
        let (code, text): (u32, _) = match key {
            "Tab" => (9, None),
            "Enter" => (13, Some("\r")),
            "Escape" => (27, None),
            "ArrowDown" => (40, None),
            "ArrowUp" => (38, None),
            "j" => (74, None),
            "x" => (88, None),
            "Control+z" => {
                return self
                    .key(json!({ "key": "z", "windowsVirtualKeyCode": 90, "modifiers": 2 }));
            }
            other => bail!("the key {other} isn't known here"),
        };
        let mut event = json!({ "key": key, "code": key, "windowsVirtualKeyCode": code });
        if let Some(text) = text {
            event["text"] = text.into();
        }
        self.key(event)
    }

    fn key(&mut self, mut event: Value) -> Result<()> {
        event["type"] = "keyDown".into();
        self.call("Input.dispatchKeyEvent", &event)?;
        event["type"] = "keyUp".into();
        if let Some(fields) = event.as_object_mut() {
            fields.remove("text");
        }
        self.call("Input.dispatchKeyEvent", &event)?;
        Ok(())
    }

    /// Waits for an element on a page whose scripts have run, and presses the mouse in its middle.
    pub(crate) fn click(&mut self, element: &str) -> Result<()> {
        self.wait(&format!(
            "document.readyState === 'complete' && Boolean({element})"
        ))?;
        let place = self.value(&format!(
            "(e => {{ e.scrollIntoView({{ block: 'center', behavior: 'instant' }}); const r = e.getBoundingClientRect(); \
             return [r.x + r.width / 2, r.y + r.height / 2]; }})({element})"
        ))?;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event)?;
        }
        Ok(())
    }

    /// Chooses an option of a list. The browser draws its list outside of the page, where nothing of ours is.
    pub(crate) fn choose(&mut self, list: &str, value: &str) -> Result<()> {
        let chosen = self.value(&format!(
            "(list => {{ list.value = {}; list.dispatchEvent(new Event('change', {{ bubbles: true }})); return list.value; }})\
             (document.querySelector({}))",
            json!(value),
            json!(list)
        ))?;
        if chosen != value {
            bail!("{list} offers no {value}");
        }
        Ok(())
    }

    /// Puts files into a field for files, as the dialog of the system would.
    pub(crate) fn choose_files(&mut self, field: &str, files: &[Utf8PathBuf]) -> Result<()> {
        let asked = json!({ "expression": format!("document.querySelector({})", json!(field)) });
        let found = self.call("Runtime.evaluate", &asked)?;
        let chosen = json!({ "files": files, "objectId": found["result"]["objectId"] });
        self.call("DOM.setFileInputFiles", &chosen)?;
        Ok(())
    }

    /// The page as a PNG file, from its top to its end.
    pub(crate) fn picture(&mut self, file: &Utf8Path) -> Result<()> {
        let asked = json!({ "format": "png", "captureBeyondViewport": false });
        let reply = self.call("Page.captureScreenshot", &asked)?;
        let bytes = unbase64(&text(&reply["data"])?).context("the picture can't be read")?;
        std::fs::write(file, bytes).with_context(|| format!("cannot write {file}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(value: &Value) -> Result<String> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| anyhow!("Chromium answered {value} where a text was expected"))
}

/// Base64 as Chromium writes it; `None` if it isn't.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for char in text.bytes().filter(|char| *char != b'=') {
        let six = match char {
            b'A'..=b'Z' => char - b'A',
            b'a'..=b'z' => char - b'a' + 26,
            b'0'..=b'9' => char - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).ok()?);
        }
        held &= (1 << bits) - 1;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::unbase64;

    #[test]
    fn base64() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(unbase64(text).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(unbase64("Z?"), None);
    }
}
