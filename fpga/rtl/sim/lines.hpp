// Hexadecimal text, for the programs that speak lines.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

inline int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

// False where `text` is not an even number of lower-case digits.
inline bool from_hex(const std::string &text, std::vector<unsigned char> &out) {
    out.clear();
    if (text.size() % 2) return false;
    for (size_t i = 0; i < text.size(); i += 2) {
        int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0) return false;
        out.push_back((unsigned char)(high << 4 | low));
    }
    return true;
}

inline std::string to_hex(const unsigned char *bytes, size_t count) {
    const char *digits = "0123456789abcdef";
    std::string text;
    for (size_t i = 0; i < count; i++) {
        text += digits[bytes[i] >> 4];
        text += digits[bytes[i] & 15];
    }
    return text;
}
