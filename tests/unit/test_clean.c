/* Cleaning: markup in, prose out. Expected texts are written by hand from the rules in the headers. */
#include "core/data/clean.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static lq_arena arena;

static const char *clean(lq_markup markup, const char *text)
{
    char *prose;
    size_t n;
    assert_int_equal(lq_clean(markup, text, strlen(text), &arena, &prose, &n), LQ_OK);
    assert_int_equal(strlen(prose), n);
    return prose;
}

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

static void rst_headings_and_paragraphs(void **state)
{
    (void)state;
    assert_string_equal(clean(LQ_MARKUP_RST,
                              "====\nTitle\n====\n\nA first line\nand a second one.\n\n"
                              "Section\n-------\n\nMore  text\there.\n\n-----\n\nThe end.\n"),
                        "Title\n\nA first line and a second one.\n\nSection\n\nMore text here.\n\n"
                        "The end.\n");
}

static void rst_inline_markup(void **state)
{
    (void)state;
    assert_string_equal(
        clean(LQ_MARKUP_RST,
              "See :ref:`the section <target>` and :func:`~os.path.join`, or ``a * b`` in *this*\n"
              "and **that** [1]_ case; `a link <http://x.org/>`_ and name_ too, but not file_name\n"
              "nor 2 * 3 * 4. Use :pep:`8`, |version| and a\\*b.\n"),
        "See the section and join, or a * b in this and that case; a link and name too, but not "
        "file_name nor 2 * 3 * 4. Use PEP 8, version and a*b.\n");
}

static void rst_code_tables_and_comments_go(void **state)
{
    (void)state;
    assert_string_equal(
        clean(LQ_MARKUP_RST,
              ".. SPDX-License-Identifier: GPL-2.0\n\n.. _a-target:\n\nCall it like this::\n\n"
              "    int main(void)\n    {\n        return 0;\n    }\n\nThen go on::\n\n  x = 1;\n"
              ".. code-block:: c\n   :linenos:\n\n   foo();\n\n>>> 1 + 1\n2\n\n"
              "+-----+-----+\n| one | two |\n+-----+-----+\n\n=====  =====\nFirst  Second\n=====  "
              "=====\none    two\n=====  =====\n\n.. toctree::\n   :maxdepth: 1\n\n   index\n\n"
              ".. image:: x.png\n\nThis stays here.\n"),
        "Call it like this:\n\nThen go on:\n\nThis stays here.\n");
}

static void rst_directives_with_prose_stay(void **state)
{
    (void)state;
    assert_string_equal(
        clean(LQ_MARKUP_RST,
              ".. note:: Mind the gap\n   between two lines.\n\n.. function:: open(path, mode)\n"
              "   :noindex:\n\n   Opens a file for you.\n\n   .. versionchanged:: 3.9\n"
              "      It may now fail.\n\n.. versionadded:: 3.2\n\n.. warning::\n\n   Do not do "
              "this.\n\n:Author: Jane Doe\n:param path: where it is found\n"),
        "Mind the gap between two lines.\n\nopen(path, mode)\n\nOpens a file for you.\n\n"
        "Changed in version 3.9: It may now fail.\n\nDo not do this.\n\nparam path: where it is "
        "found\n");
}

static void rst_lists_and_definitions(void **state)
{
    (void)state;
    assert_string_equal(
        clean(LQ_MARKUP_RST,
              "* the first item\n  goes on\n* the second item\n    wrapped too deep\n\n"
              "1. count me in\n2. count me too\n\nterm\n    What it means,\n    at "
              "length.\nother term\n    Means less.\n"),
        "- the first item goes on\n\n- the second item wrapped too deep\n\n1. count me in\n\n"
        "2. count me too\n\nterm\n\nWhat it means, at length.\n\nother term\n\nMeans less.\n");
}

static void prose_is_told_from_code(void **state)
{
    (void)state;
    /* a block quote of code, a list of numbers, a rule: dropped; sentences in a literal block: kept */
    assert_string_equal(
        clean(LQ_MARKUP_RST,
              "Plain words here.\n\n    ret = do_it(&dev->lock, flags | X);\n\n0x10 0x20 0x30 "
              "0x40\n\n"
              "Dear reader::\n\n  this is a letter that was set as a literal block by its author, "
              "as some are.\n\nThe ``<|endoftext|>`` mark must not pass.\n"),
        "Plain words here.\n\nDear reader:\n\nthis is a letter that was set as a literal block by "
        "its "
        "author, as some are.\n");
}

static void text_is_made_valid(void **state)
{
    (void)state;
    assert_string_equal(
        clean(LQ_MARKUP_RST, "caf\xC3\xA9 \xFF\xC0\xAFwith\xED\xA0\x80 broken\x01 bytes\r\n"),
        "caf\xC3\xA9 with broken bytes\n");
    assert_string_equal(clean(LQ_MARKUP_RST, ""), "");
    assert_string_equal(clean(LQ_MARKUP_RST, "\n\n  \n"), "");
    assert_string_equal(clean(LQ_MARKUP_NONE, "some plain text"), "");
}

static void pod_commands_and_codes(void **state)
{
    (void)state;
    assert_string_equal(
        clean(
            LQ_MARKUP_POD,
            "ignored before pod\n\n=encoding utf8\n\n=head1 NAME of B<it>\n\nUse C<< $a->{b} >> or "
            "B<bold I<and italic>>\nin one paragraph.X<index>\n\n=over 4\n\n=item *\n\nA bullet "
            "point.\n\n=item term\n\nIts C<meaning> here.\n\n=item 1.\n\nNumbered "
            "item.\n\n=back\n\n"
            "    my $code = 1;\n\n=begin html\n\n<p>No such thing here.</p>\n\n=end html\n\n"
            "See L<perlre>, L<perlfunc/open>, L</Below>, L<the docs|perldoc> and\n"
            "L<http://x.org/a>: a E<lt> b E<eacute> E<0x263A>.\n\n=cut\n\nignored after cut\n"),
        "NAME of it\n\nUse $a->{b} or bold and italic in one paragraph.\n\n- A bullet "
        "point.\n\nterm\n\n"
        "Its meaning here.\n\n1. Numbered item.\n\nSee perlre, open in perlfunc, Below, the docs "
        "and "
        "http://x.org/a: a < b \xC3\xA9 \xE2\x98\xBA.\n");
}

static void pod_broken_codes_stay(void **state)
{
    (void)state;
    assert_string_equal(clean(LQ_MARKUP_POD, "=pod\n\nIf A<B and C<never closed it stays.\n"),
                        "If A<B and C<never closed it stays.\n");
    char deep[4096] = "=pod\n\nDeep words ";
    for (size_t at = strlen(deep); at + 4 < sizeof deep; at += 3)
        memcpy(deep + at, "B<x", 4);
    (void)clean(LQ_MARKUP_POD, deep); /* must end, and soon */
}

static void man_requests_and_escapes(void **state)
{
    (void)state;
    assert_string_equal(
        clean(LQ_MARKUP_MAN,
              ".\\\" made by Pod::Man\n.de Sp\nnot this\n..\n.SH \"NAME\"\nFoo::Bar \\- does "
              "\\fBbold\\fR things\n.SH \"DESCRIPTION\"\n.IX Header \"DESCRIPTION\"\nIt "
              "\\f(CW\\*(C`has"
              "\\*(C'\\fR \\*(L\"quotes\\*(R\"\nand two lines.\n.PP\n.Vb 1\n\\&  my $x = 1;\n.Ve\n"
              ".IP \"\\(bu\" 4\nA bullet point.\n.ie n .IP \"\"\"method\"\"\" 4\n.el .IP "
              "\"\\f(CWmethod\\fR\" 4\nWhat it does.\n"),
        "NAME\n\nFoo::Bar - does bold things\n\nDESCRIPTION\n\nIt has \"quotes\" and two lines.\n\n"
        "- A bullet point.\n\nmethod\n\nWhat it does.\n");
}

static void abi_keeps_the_description(void **state)
{
    (void)state;
    assert_string_equal(
        clean(LQ_MARKUP_ABI,
              "What:\t\t/sys/class/x/name\nDate:\t\tMay 2007\nContact:\tA B <a@b.org>\n"
              "\t\tC D <c@d.org>\nDescription:\n\t\tReports the name\n\t\tof the device.\n\n"
              "\t\tAccess is read only.\n\nWhat:\t\t/sys/y\nDescription:\tA second one.\n"),
        "Reports the name of the device.\n\nAccess is read only.\n\nA second one.\n");
}

static void anything_can_be_cleaned(void **state)
{
    (void)state;
    static const char alphabet[] = " \n\t.:`*_|<>=-+\\[]abC\"{~!#1\xC3\xA9";
    uint64_t x = 88172645463325252u;
    for (int round = 0; round < 4000; round++) {
        char text[257];
        size_t n = 0;
        for (; n < 256; n++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            text[n] = alphabet[x % (sizeof alphabet - 1)];
        }
        text[n] = '\0';
        for (int markup = LQ_MARKUP_RST; markup <= LQ_MARKUP_ABI; markup++)
            (void)clean((lq_markup)markup, text);
        lq_arena_close(&arena);
    }
}

static void out_of_memory_is_told(void **state)
{
    (void)state;
    char *prose;
    size_t n;
    lq_arena_fail_after(0);
    lq_status status = lq_clean(LQ_MARKUP_RST, "words here", 10, &arena, &prose, &n);
    lq_arena_fail_after(SIZE_MAX);
    assert_int_equal(status, LQ_E_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(rst_headings_and_paragraphs, close_arena),
        cmocka_unit_test_teardown(rst_inline_markup, close_arena),
        cmocka_unit_test_teardown(rst_code_tables_and_comments_go, close_arena),
        cmocka_unit_test_teardown(rst_directives_with_prose_stay, close_arena),
        cmocka_unit_test_teardown(rst_lists_and_definitions, close_arena),
        cmocka_unit_test_teardown(prose_is_told_from_code, close_arena),
        cmocka_unit_test_teardown(text_is_made_valid, close_arena),
        cmocka_unit_test_teardown(pod_commands_and_codes, close_arena),
        cmocka_unit_test_teardown(pod_broken_codes_stay, close_arena),
        cmocka_unit_test_teardown(man_requests_and_escapes, close_arena),
        cmocka_unit_test_teardown(abi_keeps_the_description, close_arena),
        cmocka_unit_test_teardown(anything_can_be_cleaned, close_arena),
        cmocka_unit_test_teardown(out_of_memory_is_told, close_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
