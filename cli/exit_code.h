#pragma once

namespace conclave::cli {

// Exit codes of the program.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;   // The router answered with an error, or the stream broke.
inline constexpr int kExitUsage = 2;    // The command line or a file it names is wrong.
inline constexpr int kExitDiffers = 3;  // What was run again came to something else.
inline constexpr int kExitNothing = 4;  // It ran again, and nothing could be compared.
inline constexpr int kExitInterrupted = 130;  // Ctrl-C; the request was stopped or cancelled.

// The same for people, as --help of the program and of each command shows them.
inline constexpr char kExitCodeText[] =
    "Exit codes, as far as a command has them:\n"
    "  0    it is done: the answer came, the bytes are the same, the files are right\n"
    "  1    the router answered with an error, or could not be reached\n"
    "  2    the command line, or a file that it names, is wrong\n"
    "  3    what was run again came to something else\n"
    "  4    it ran again, and nothing could be compared\n"
    "  130  Ctrl-C";
inline constexpr char kAskExitCodeText[] =
    "Exit codes:\n"
    "  0    the answer came\n"
    "  1    the router answered with an error, or could not be reached\n"
    "  2    the command line, or a file that it names, is wrong\n"
    "  130  Ctrl-C stopped the request, with the best answer so far if there is one;\n"
    "       a second one ends the program at once";
inline constexpr char kReplayExitCodeText[] =
    "Exit codes:\n"
    "  0    the same bytes; of a flight: told, or every step compared is as it was\n"
    "  1    it could not be run: no router, another fingerprint, another group\n"
    "  2    the command line, or the file, is wrong\n"
    "  3    it differs; of a flight: a step differs, fails, kills its rank or never\n"
    "       ends\n"
    "  4    of a flight: every step ran, and none could be compared\n"
    "  130  Ctrl-C";
inline constexpr char kEvalExitCodeText[] =
    "Exit codes:\n"
    "  0    every question was asked; errors stand in the table\n"
    "  1    the router could not be reached\n"
    "  2    the command line, or a file that it names, is wrong\n"
    "  130  Ctrl-C; the table is of what was answered until then";
inline constexpr char kRenderExitCodeText[] =
    "Exit codes:\n"
    "  0    the prompt is shown\n"
    "  1    the router answered with an error, or could not be reached\n"
    "  2    the command line, or the model's folder, is wrong";
inline constexpr char kTokenizeExitCodeText[] =
    "Exit codes:\n"
    "  0    the tokens are shown\n"
    "  2    the command line, the text or the model's folder is wrong";
inline constexpr char kModelsExitCodeText[] =
    "Exit codes:\n"
    "  0    the models are listed\n"
    "  1    the router answered with an error, or could not be reached\n"
    "  2    the command line is wrong";
inline constexpr char kCheckExitCodeText[] =
    "Exit codes:\n"
    "  0    every file is right\n"
    "  2    the command line, or one of the files, is wrong";
inline constexpr char kHealthExitCodeText[] =
    "Exit codes:\n"
    "  0    it serves\n"
    "  1    it does not, or nothing answers\n"
    "  2    the command line is wrong";
inline constexpr char kCompletionExitCodeText[] =
    "Exit codes:\n"
    "  0    the script is printed\n"
    "  2    there is none for this shell";

}  // namespace conclave::cli
