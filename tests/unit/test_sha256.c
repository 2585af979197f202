#include "core/base/file.h"
#include "core/base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* FIPS 180-4 examples, as in NIST's "SHA_All.pdf". */
static const struct {
    const char *text;
    size_t times;
    const char *hex;
} vectors[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

static void known_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        lq_sha256 *sha;
        lq_digest digest, again;
        assert_int_equal(lq_sha256_open(&sha), LQ_OK);
        for (size_t k = 0; k < vectors[i].times; k++)
            lq_sha256_add(sha, vectors[i].text, strlen(vectors[i].text));
        lq_sha256_close(sha, &digest);
        assert_string_equal(digest.hex, vectors[i].hex);
        assert_int_equal(digest.byte[0],
                         strtoul((char[]){digest.hex[0], digest.hex[1], 0}, NULL, 16));
        if (vectors[i].times == 1) {
            assert_int_equal(lq_sha256_of(vectors[i].text, strlen(vectors[i].text), &again), LQ_OK);
            assert_memory_equal(&again, &digest, sizeof digest);
        }
    }
    lq_sha256 *unused;
    assert_int_equal(lq_sha256_open(&unused), LQ_OK);
    lq_sha256_close(unused, NULL);
    lq_sha256_close(NULL, NULL);
}

static void a_file_is_streamed(void **state)
{
    (void)state;
    char path[] = P_tmpdir "/lcqat-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    char *text = malloc(1000000);
    assert_non_null(text);
    memset(text, 'a', 1000000);
    assert_int_equal(lq_file_write_all(path, text, 1000000), LQ_OK);
    free(text);
    lq_digest digest;
    assert_int_equal(lq_sha256_file(path, &digest), LQ_OK);
    assert_string_equal(digest.hex, vectors[3].hex);
    unlink(path);
    assert_int_equal(lq_sha256_file(path, &digest), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), path));
    assert_int_equal(lq_sha256_file(".", &digest), LQ_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors),
        cmocka_unit_test(a_file_is_streamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
