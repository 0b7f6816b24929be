//! Histories that once failed, by what they showed.

use super::Action::*;
use super::Hurt::EmptyPosFile;
use super::{Action, Setup, run};

fn hold(pattern: &'static str, batch: Option<u64>, actions: &[Action]) {
    const MANY: usize = usize::MAX;
    for (follow_inodes, open_files, events) in [
        (false, MANY, false),
        (true, MANY, false),
        (false, 1, false),
        (false, MANY, true),
    ] {
        let setup = Setup {
            pattern,
            follow_inodes,
            batch,
            open_files,
            events,
            rotate_wait: std::time::Duration::ZERO,
        };
        if let Err(reason) = run(setup, actions) {
            panic!("{setup:?}\n{reason}");
        }
    }
}

#[test]
fn what_is_in_flight_before_a_forgotten_batch_of_a_rotated_file_is_not_repeated() {
    let actions = [
        Append(3),
        Look,
        Lose(1),
        Rotate { create: false },
        Look,
        Ack(0),
    ];
    hold("a.log", Some(2), &actions);
}

#[test]
fn a_generation_is_read_under_an_odd_name_when_the_name_it_had_is_that_of_another() {
    let actions = [
        Burst(2),
        Rotate { create: false },
        Stop(1),
        Rotate { create: true },
        RenameOddly(0),
    ];
    hold("a.log*", Some(1), &actions);
}

#[test]
fn what_came_before_a_file_with_the_inode_of_a_deleted_one_is_found_at_start() {
    let actions = [
        Append(1),
        Look,
        Delete(0),
        Append(2),
        Kill,
        Rotate { create: true },
    ];
    hold("a.log", Some(1), &actions);
    let actions = [
        Append(1),
        Look,
        Delete(0),
        Rotate { create: true },
        Kill,
        Burst(4),
    ];
    hold("a.log", Some(1), &actions);
    let rotated = [&actions[..], &[Rotate { create: false }]].concat();
    hold("a.log", Some(1), &rotated);
}

#[test]
fn a_rotated_file_with_the_inode_of_a_deleted_one_is_open_before_it_is_renamed_again() {
    let actions = [
        Half,
        Look,
        Delete(232),
        Kill,
        Burst(3),
        Look,
        RenameOddly(177),
    ];
    hold("a.log", Some(2), &actions);
}

#[test]
fn another_life_of_a_finished_generation_is_not_repeated_after_a_clean_stop() {
    let actions = [
        Append(1),
        Look,
        Stop(2),
        Rotate { create: true },
        Look,
        Ack(0),
        Look,
        Regrow(0),
        Look,
        Stop(2),
    ];
    hold("a.log*", None, &actions);
}

#[test]
fn an_emptied_pos_file_does_not_hide_what_came_after_it_was_written() {
    let actions = [Burst(3), Kill, Hurt(EmptyPosFile)];
    hold("a.log", None, &actions);
}

#[test]
fn what_came_between_the_last_look_and_the_last_write_of_positions_is_found() {
    let actions = [
        Append(1),
        Look,
        Stop(1),
        Look,
        Append(1),
        Look,
        Delete(0),
        Append(2),
        Rotate { create: true },
        Tick,
        Ack(0),
        Settle,
        Kill,
    ];
    hold("a.log", None, &actions);
}

#[test]
fn what_comes_and_goes_long_after_a_rotation_that_left_no_file_is_found() {
    let actions = [Append(2), Rotate { create: false }, Age, Burst(4)];
    hold("a.log", None, &actions);
}

#[test]
fn the_descriptor_of_a_deleted_file_is_not_lent() {
    let actions = [
        Half,
        Copytruncate,
        Write,
        Rotate { create: true },
        Append(1),
        Write,
        Full(true),
        Delete(2),
        Look,
    ];
    hold("a.log", Some(2), &actions);
}

#[test]
fn a_file_that_nobody_has_looked_at_is_followed_through_several_renames() {
    let actions = [Append(3), Rotate { create: true }, RenameOddly(0)];
    hold("a.log", Some(2), &actions);
}

#[test]
fn a_file_that_came_and_went_where_only_a_deleted_one_is_read_is_followed() {
    let actions = [Append(3), Look, Delete(0), Age, Append(2), RenameOddly(0)];
    hold("a.log*", Some(2), &actions);
}

#[test]
fn of_two_finished_lives_of_one_inode_the_second_is_remembered() {
    let actions = [
        Append(2),
        Look,
        Ack(0),
        Delete(0),
        Look,
        Append(1),
        Rotate { create: false },
        Look,
        Ack(0),
        Look,
        Stop(1),
    ];
    hold("a.log", None, &actions);
}

#[test]
fn what_was_rotated_while_nobody_ran_is_open_before_it_is_renamed_again() {
    let actions = [
        Append(2),
        Look,
        Kill,
        Burst(3),
        Rotate { create: false },
        Look,
        RenameOddly(41),
    ];
    hold("a.log", Some(2), &actions);
}
