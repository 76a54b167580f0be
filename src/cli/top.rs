//! `ringress top`: hosts, routes and destinations of a running gateway with their traffic, in the terminal.

mod rows;
mod screen;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

use super::live;
use rows::{Grouping, SortKey, Table};
use screen::Screen;

/// How often the gateway is asked.
const REFRESH: Duration = Duration::from_secs(1);
/// How long a key is waited for before the screen is looked after.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Windows that `w` goes through, seconds.
const WINDOWS: [u64; 5] = [10, 60, 300, 600, 3600];

/// Options of `ringress top`.
#[derive(Clone, Debug, Args)]
pub(super) struct TopOptions {
    /// Admin port of the gateway.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,

    /// Print one table and end.
    #[arg(long)]
    once: bool,

    /// Seconds that the numbers are of.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(5..=3600))]
    window: u64,

    /// What the rows are ordered by.
    #[arg(long, value_enum, default_value_t = SortKey::Rate)]
    sort: SortKey,

    /// One row for each of these.
    #[arg(long, value_enum, default_value_t = Grouping::Routes)]
    by: Grouping,

    /// Only rows in whose names this occurs.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
}

impl TopOptions {
    /// Does it print a table and end?
    pub(super) fn prints_once(&self) -> bool {
        self.once
    }
}

/// Show until `q`. Exit code 1 when the gateway cannot be asked or there is no terminal.
pub(super) fn run(options: &TopOptions) -> ExitCode {
    let outcome = if options.once { once(options) } else { follow(options) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ringress: {message}");
            ExitCode::FAILURE
        }
    }
}

fn once(options: &TopOptions) -> Result<(), String> {
    let page = ask(options.admin, options.window)?;
    let table = Table::new(&page, options.by, options.sort, &options.filter);
    print!("{}", table.to_text());
    Ok(())
}

fn ask(admin: SocketAddr, window: u64) -> Result<Value, String> {
    let text = live::get(admin, &format!("/api/live?window={window}"))
        .map_err(|error| error.to_string())?;
    serde_json::from_str(&text)
        .map_err(|error| format!("the answer of the gateway at {admin} cannot be read: {error}"))
}

fn follow(options: &TopOptions) -> Result<(), String> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err("no terminal to draw on; --once prints a table".to_owned());
    }
    // Who cannot be asked at all is told before the screen is taken.
    let first = ask(options.admin, options.window)?;
    let window = Arc::new(AtomicU64::new(options.window));
    let answers = ask_again_and_again(options.admin, Arc::clone(&window))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut screen = Screen {
        admin: options.admin.to_string(),
        page: first,
        problem: None,
        by: options.by,
        sort: options.sort,
        filter: options.filter.clone(),
        typing: false,
        paused: false,
        first_row: 0,
        colours: !plain,
    };
    // Gives the terminal back when this panics, too.
    let mut terminal = ratatui::try_init().map_err(|error| format!("no terminal: {error}"))?;
    let outcome = draw_until_quit(&mut terminal, &mut screen, &answers, &window);
    ratatui::restore();
    outcome.map_err(|error| format!("the terminal failed: {error}"))
}

/// Ask on a thread of its own: a gateway that hangs must not hold the keys up. It ends with the process,
/// or when nobody takes its answers.
fn ask_again_and_again(
    admin: SocketAddr,
    window: Arc<AtomicU64>,
) -> io::Result<Receiver<Result<Value, String>>> {
    let (sender, answers) = mpsc::sync_channel(1);
    thread::Builder::new().name("ask".to_owned()).spawn(move || {
        loop {
            thread::sleep(REFRESH);
            if sender.send(ask(admin, window.load(Ordering::Relaxed))).is_err() {
                return;
            }
        }
    })?;
    Ok(answers)
}

fn draw_until_quit(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    answers: &Receiver<Result<Value, String>>,
    window: &AtomicU64,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        if event::poll(KEY_WAIT)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && !take_key(screen, key, window)
        {
            return Ok(());
        }
        match answers.try_recv() {
            Ok(Ok(page)) if !screen.paused => {
                screen.page = page;
                screen.problem = None;
            }
            Ok(Err(problem)) => screen.problem = Some(problem),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

/// Do what a key says. False: it says to end.
fn take_key(screen: &mut Screen, key: KeyEvent, window: &AtomicU64) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('c') {
        return false;
    }
    if screen.typing {
        match key.code {
            KeyCode::Enter => screen.typing = false,
            KeyCode::Esc => {
                screen.typing = false;
                screen.filter.clear();
            }
            KeyCode::Backspace => {
                screen.filter.pop();
            }
            KeyCode::Char(letter) if !control => screen.filter.push(letter),
            _ => {}
        }
        screen.first_row = 0;
        return true;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('/') => screen.typing = true,
        KeyCode::Char('s') => screen.sort = screen.sort.next(),
        KeyCode::Char('g') => screen.by = screen.by.next(),
        KeyCode::Char('p') => screen.paused = !screen.paused,
        KeyCode::Char('w') => {
            let now = window.load(Ordering::Relaxed);
            let next = WINDOWS.iter().find(|wider| **wider > now).unwrap_or(&WINDOWS[0]);
            window.store(*next, Ordering::Relaxed);
        }
        KeyCode::Down | KeyCode::Char('j') => screen.first_row = screen.first_row.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => screen.first_row = screen.first_row.saturating_sub(1),
        KeyCode::PageDown => screen.first_row = screen.first_row.saturating_add(10),
        KeyCode::PageUp => screen.first_row = screen.first_row.saturating_sub(10),
        KeyCode::Home => screen.first_row = 0,
        _ => {}
    }
    true
}
