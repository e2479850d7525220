//! Changes as server-sent events: whoever listens gets the new row of each device and run that changed.

use std::collections::BTreeSet;
use std::convert::Infallible;

use axum::extract::{Extension, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};

use crate::error::chain;
use crate::limits::CHANGES_GATHERED_FOR;
use crate::people::auth::User;
use crate::state::{AppState, Change, stopped};

struct Listener {
    state: AppState,
    user: User,
    changes: Receiver<Change>,
    due: Vec<Event>,
}

/// `GET /api/v1/events/stream`: `device` with a row of a device, `run` with a row of a run, `resync` to read all anew.
pub(crate) async fn stream(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let listener = Listener {
        changes: state.subscribe(),
        state,
        user,
        due: vec![Event::default().event("resync").data("{}")],
    };
    let events = futures_util::stream::unfold(listener, |mut listener| async move {
        loop {
            if let Some(event) = listener.due.pop() {
                return Some((Ok(event), listener));
            }
            tokio::select! {
                () = stopped(listener.state.stopping()) => return None,
                changes = gather(&mut listener.changes) => {
                    let changes = changes?;
                    listener.due = events(&listener.state, &listener.user, &changes).await;
                }
            }
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// The next changes, each once; `None` inside for "too many". `None` if there will be no more.
async fn gather(changes: &mut Receiver<Change>) -> Option<BTreeSet<Option<Change>>> {
    let mut gathered = BTreeSet::new();
    match changes.recv().await {
        Ok(change) => gathered.insert(Some(change)),
        Err(RecvError::Lagged(_)) => gathered.insert(None),
        Err(RecvError::Closed) => return None,
    };
    // A run that reports ten times a second changes a page five times a second.
    tokio::time::sleep(CHANGES_GATHERED_FOR).await;
    loop {
        match changes.try_recv() {
            Ok(change) => gathered.insert(Some(change)),
            Err(TryRecvError::Lagged(_)) => gathered.insert(None),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(gathered),
        };
    }
}

async fn events(state: &AppState, user: &User, changes: &BTreeSet<Option<Change>>) -> Vec<Event> {
    if changes.contains(&None) {
        return vec![Event::default().event("resync").data("{}")];
    }
    let mut events = Vec::new();
    for change in changes.iter().flatten() {
        let event = match change {
            Change::Device(id) => match state.device_row_for(user, *id).await {
                Ok(Some(row)) => Event::default().event("device").json_data(row),
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "cannot read a device that changed");
                    continue;
                }
            },
            Change::Run(id) => match state.run_row_for(user, *id).await {
                Ok(Some(row)) => Event::default().event("run").json_data(row),
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "cannot read a run that changed");
                    continue;
                }
            },
        };
        match event {
            Ok(event) => events.push(event),
            Err(error) => tracing::error!(error = %chain(&error), "cannot write a row"),
        }
    }
    events
}
