"""The table of a long run, and how its progress is read."""

from benchmarks.long_runs import Look, images_done, steps_done, table


def test_memory_grows_from_the_half_to_the_end_of_the_work():
    # Compiling before, a report after.
    looks = [Look(0, 0.0, 900.0, 9, 0.0), *(Look(done, done / 2, 1000.0 + done, 10, 1.0) for done in range(5, 101, 5))]
    looks += [Look(100, 51.0, 3000.0, 20, 2.0)]
    text = table(looks, 100, "steps")
    assert text.splitlines()[2].split() == ["|", "10", "|", "5.00", "|", "1010.00", "|", "10", "|", "1.00", "|"]
    assert text.endswith("memory from the half to the end: +4.8 %")  # 1100 / 1050


def test_a_part_that_passed_unseen_has_the_last_look():
    assert table([Look(1, 1.0, 10.0, 1, 0.0), Look(3, 2.0, 10.0, 1, 0.0)], 10, "images").count("|      3 |") == 9


def test_done_are_the_last_step_of_the_log_and_the_images_of_the_folder(tmp_path):
    log = tmp_path / "log"
    log.write_text("workdir: x\n")
    assert (steps_done(log, tmp_path), images_done(log, tmp_path)) == (0, 0)
    log.write_text("step 20/600: loss 3.650\nstep 40: miss rate\nstep 60/600: loss 3.1\n")
    (tmp_path / "annotated").mkdir()
    (tmp_path / "annotated" / "1.jpg").touch()
    assert (steps_done(log, tmp_path), images_done(log, tmp_path)) == (60, 1)
