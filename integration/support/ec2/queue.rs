//! One standard SQS queue: visibility, receipt handles, receive counts, redrive. Pure; [`super::wire_sqs`] speaks to clients.

use std::time::Duration;

use super::hooks::Refused;
use super::notification::uuid;

/// A message that was sent and not deleted.
#[derive(Clone, Debug)]
pub struct Message {
    /// `MessageId`
    pub id: String,
    /// The body.
    pub body: String,
    /// `SentTimestamp`: milliseconds since 1970.
    pub sent_ms: i64,
    /// `ApproximateReceiveCount`
    pub receives: u32,
    /// `ApproximateFirstReceiveTimestamp`
    pub first_receive_ms: i64,
    visible_at: Duration,
    in_flight: bool,
    deleted: bool,
}

/// A message as one receive returns it.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The message at that moment.
    pub message: Message,
    /// Belongs to this receive only.
    pub handle: String,
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its name, the last part of its URL.
    pub name: String,
    /// Default visibility timeout: 30 s [M].
    pub visibility: Duration,
    /// `maxReceiveCount` of a redrive policy, if it has one: a message received that often goes to `dead` [D].
    pub max_receives: Option<u32>,
    /// What the redrive policy took away.
    pub dead: Vec<Message>,
    /// A deleted message may be delivered once more [M]: true makes the next delete such a one.
    pub next_delete_is_forgotten: bool,
    messages: Vec<Message>,
}

impl Queue {
    /// An empty queue with SQS's defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_string(),
            visibility: Duration::from_secs(30),
            max_receives: None,
            dead: Vec::new(),
            next_delete_is_forgotten: false,
            messages: Vec::new(),
        }
    }

    /// Puts a message in, visible at once; returns its id.
    pub fn send(&mut self, body: impl Into<String>, sent_ms: i64, now: Duration) -> String {
        let id = uuid();
        self.messages.push(Message {
            id: id.clone(),
            body: body.into(),
            sent_ms,
            receives: 0,
            first_receive_ms: 0,
            visible_at: now,
            in_flight: false,
            deleted: false,
        });
        id
    }

    /// What is in it, visible or not.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| !message.deleted)
    }

    /// How many are visible and how many are in flight now.
    pub fn counts(&self, now: Duration) -> (usize, usize) {
        let visible = self.messages().filter(|m| m.visible_at <= now).count();
        (visible, self.messages().count() - visible)
    }

    /// `ReceiveMessage` without the waiting. A standard queue promises no order: the pick is random.
    pub fn receive(
        &mut self,
        max: usize,
        visibility: Duration,
        now_ms: i64,
        now: Duration,
    ) -> Vec<Receipt> {
        self.redrive(now);
        let visible = |m: &&mut Message| !m.deleted && m.visible_at <= now;
        let mut picked: Vec<&mut Message> = self.messages.iter_mut().filter(visible).collect();
        fastrand::shuffle(&mut picked);
        picked
            .into_iter()
            .take(max)
            .map(|message| {
                message.receives += 1;
                if message.receives == 1 {
                    message.first_receive_ms = now_ms;
                }
                message.visible_at = now + visibility;
                message.in_flight = true;
                Receipt {
                    handle: format!("AQEB{}#{}", message.id, message.receives),
                    message: message.clone(),
                }
            })
            .collect()
    }

    /// When a hidden message becomes visible next.
    pub fn next_visible(&self, now: Duration) -> Option<Duration> {
        let hidden = self.messages().map(|m| m.visible_at).filter(|at| *at > now);
        hidden.min()
    }

    /// `DeleteMessage`; returns the id and body of what was deleted. A handle of an earlier receive succeeds without deleting, which
    /// AWS says *may* happen [M] and here always does.
    ///
    /// # Errors
    /// `ReceiptHandleIsInvalid` for what is no handle of this queue.
    pub fn delete(&mut self, handle: &str) -> Result<Option<(String, String)>, Refused> {
        let (message, current) = self.find(handle)?;
        if !current || message.deleted {
            return Ok(None);
        }
        let gone = (message.id.clone(), message.body.clone());
        if self.next_delete_is_forgotten {
            self.next_delete_is_forgotten = false;
        } else if let Ok((message, _)) = self.find(handle) {
            message.deleted = true;
        }
        Ok(Some(gone))
    }

    /// `ChangeMessageVisibility`, counted from now; zero gives the message back.
    ///
    /// # Errors
    /// `ReceiptHandleIsInvalid`; `MessageNotInflight` when it is visible already [M]; `InvalidParameterValue` when it was deleted [X].
    pub fn change_visibility(
        &mut self,
        handle: &str,
        visibility: Duration,
        now: Duration,
    ) -> Result<String, Refused> {
        let (message, _) = self.find(handle)?;
        if message.deleted {
            let text = "Value for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change.";
            return Err(refused("InvalidParameterValue", text));
        }
        if !message.in_flight || message.visible_at <= now {
            return Err(refused(
                "MessageNotInflight",
                "the message is not in flight",
            ));
        }
        message.visible_at = now + visibility;
        message.in_flight = !visibility.is_zero();
        Ok(message.id.clone())
    }

    fn redrive(&mut self, now: Duration) {
        let Some(max) = self.max_receives else { return };
        let spent = |m: &mut Message| !m.deleted && m.visible_at <= now && m.receives >= max;
        self.dead.extend(self.messages.extract_if(.., spent));
    }

    /// The message of a handle, and whether the handle is of its latest receive.
    fn find(&mut self, handle: &str) -> Result<(&mut Message, bool), Refused> {
        let invalid = || {
            let text = format!("The input receipt handle \"{handle}\" is not valid.");
            refused("ReceiptHandleIsInvalid", &text)
        };
        let rest = handle.strip_prefix("AQEB").ok_or_else(invalid)?;
        let (id, receive) = rest.split_once('#').ok_or_else(invalid)?;
        let receive: u32 = receive.parse().map_err(|_| invalid())?;
        let message = self.messages.iter_mut().find(|message| message.id == id);
        let message = message.ok_or_else(invalid)?;
        let current = message.receives == receive;
        Ok((message, current))
    }
}

fn refused(code: &str, message: &str) -> Refused {
    Refused {
        status: 400,
        code: code.to_string(),
        message: message.to_string(),
    }
}
