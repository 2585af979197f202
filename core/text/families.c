/* Known families of byte-level tokenizers, for files that hold a vocabulary and merges and name the rest:
 * what their tokenizer.json says. Patterns as the models' authors published them; the names are those of
 * llama.cpp (src/llama-vocab.cpp), which rewrites some patterns for its own matcher. */
#include "core/text/tokenizer_parts.h"

#include <string.h>

#define BYTES                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" \
    "false}"
#define GPT2 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define DIGIT  "{\"type\":\"Digits\",\"individual_digits\":true}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":false}"
#define SPLIT(regex)                                                          \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":" \
    "\"Isolated\",\"invert\":false}"
#define SEQUENCE(list) "{\"type\":\"Sequence\",\"pretokenizers\":[" list "]}"
#define FAMILY(normalizer, pre)                                                       \
    "{\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre ",\"decoder\":{\"type\":" \
    "\"ByteLevel\"}}"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
/* cl100k of GPT-4, with its numbers of up to three digits, and Qwen's, one digit each. */
#define CL100K(digits)                                         \
    CONTRACTIONS                                               \
    "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" digits \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define UPPER "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define O200K(tail, digits)                                                       \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "*" LOWER "+" tail                     \
    "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "+" LOWER "*" tail "|\\\\p{N}" digits \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define HAN "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+"
#define WORDS_OF_BLOOM                                                                    \
    " ?[^(\\\\s|.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94" \
    "\xD8\x8C)]+"

static const lq_family families[] = {
    {" gpt-2 phi-2 olmo mpt jais exaone4 trillion gigachat a.x-4.0 mellum ", FAMILY("null", GPT2),
     false},
    {" llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 ",
     FAMILY("null", SEQUENCE(SPLIT(CL100K("{1,3}")) "," BYTES)), true},
    {" dbrx smaug-bpe glm4 chatglm-bpe ",
     FAMILY("null", SEQUENCE(SPLIT(CL100K("{1,3}")) "," BYTES)), false},
    {" qwen2 deepseek-r1-qwen ",
     FAMILY("{\"type\":\"NFC\"}", SEQUENCE(SPLIT(CL100K("")) "," BYTES)), false},
    {" megrez stablelm2 hunyuan grok-2 ", FAMILY("null", SEQUENCE(SPLIT(CL100K("")) "," BYTES)),
     false},
    {" smollm starcoder refact command-r codeshell exaone minerva-7b ",
     FAMILY("null", SEQUENCE(DIGIT "," GPT2)), false},
    {" falcon ",
     FAMILY("null", SEQUENCE("{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}," GPT2
                             "," DIGITS "," SPLIT("[0-9][0-9][0-9]"))),
     false},
    {" gpt-4o llama4 ", FAMILY("null", SEQUENCE(SPLIT(O200K(CONTRACTIONS "?", "{1,3}")) "," BYTES)),
     false},
    {" tekken ", FAMILY("null", SEQUENCE(SPLIT(O200K("", "")) "," BYTES)), true},
    {" deepseek-v3 hunyuan-dense ",
     FAMILY("null",
            SEQUENCE(SPLIT("\\\\p{N}{1,3}") "," SPLIT(
                "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-"
                "\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+") "," SPLIT("[!\\\"#$%&'()*+,\\\\-./"
                                                                     ":;<=>?@\\\\[\\\\\\\\\\\\]^_`{"
                                                                     "|}~][A-Za-z]+|"
                                                                     "[^\\\\r\\\\n\\\\p{L}\\\\p{P}"
                                                                     "\\\\p{S}]?[\\\\p{L}\\\\p{M}]+"
                                                                     "| ?[\\\\p{P}\\\\p{S}]+"
                                                                     "[\\\\r\\\\n]*|\\\\s*["
                                                                     "\\\\r\\\\n]+|\\\\s+(?!\\\\S)|"
                                                                     "\\\\s+") "," BYTES)),
     false},
    {" deepseek-coder ",
     FAMILY("null", SEQUENCE(SPLIT("[\\\\r\\\\n]") "," SPLIT("\\\\s?\\\\p{L}+") "," SPLIT(
                        "\\\\s?\\\\p{P}+") "," SPLIT(HAN) "," DIGIT "," BYTES)),
     false},
    {" bloom poro-chat gpt3-finnish ", FAMILY("null", SEQUENCE(SPLIT(WORDS_OF_BLOOM) "," BYTES)),
     false},
    {" viking ", FAMILY("null", SEQUENCE(SPLIT(WORDS_OF_BLOOM) "," DIGIT "," BYTES)), false},
    {" seed-coder ",
     FAMILY("null", SEQUENCE(SPLIT(
                        CONTRACTIONS
                        "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1}| "
                        "?[^\\\\s\\\\p{L}\\\\p{N}\\\\r\\\\n]+|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|"
                        "\\\\s+") "," BYTES)),
     false},
    /* what llama.cpp does for old files that name none */
    {" default ",
     FAMILY("null",
            SEQUENCE(SPLIT("[\\\\p{P}\\\\$\\\\+<=>\\\\^~\\\\|]+") "," SPLIT(
                "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|"
                "\\\\s+(?!\\\\S)") "," DIGITS "," SPLIT("[0-9][0-9][0-9]") "," BYTES)),
     false},
};

const lq_family *lq_family_find(const char *name)
{
    const size_t n = strlen(name);
    if (n == 0 || strchr(name, ' '))
        return NULL;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        for (const char *at = families[i].names; (at = strstr(at, name)) != NULL; at += n)
            if (at[-1] == ' ' && at[n] == ' ')
                return &families[i];
    return NULL;
}
