#pragma once

namespace conclave::cli {

// Exit codes of the program.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // The router answered with an error, or the stream broke.
inline constexpr int kExitUsage = 2;   // The command line or a file it names is wrong.
inline constexpr int kExitInterrupted = 130;  // Ctrl-C; the request was stopped or cancelled.

// The same for people, as --help shows it.
inline constexpr char kExitCodeText[] =
    "Exit codes:\n"
    "  0    the answer came\n"
    "  1    the router answered with an error, or could not be reached\n"
    "  2    the command line, or a file that it names, is wrong\n"
    "  130  Ctrl-C stopped the request, with the best answer so far if there is one; a second\n"
    "       one ends the program at once";
inline constexpr char kCheckExitCodeText[] =
    "Exit codes:\n"
    "  0    every file is right\n"
    "  2    the command line, or one of the files, is wrong";
inline constexpr char kHealthExitCodeText[] =
    "Exit codes:\n"
    "  0    it serves\n"
    "  1    it does not, or nothing answers\n"
    "  2    the command line is wrong";

}  // namespace conclave::cli
