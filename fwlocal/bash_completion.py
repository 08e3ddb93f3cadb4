"""Completion in bash, which takes ``NAME:LEVEL`` and ``--model=NAME`` apart where the user sees one
word: its words are joined before the program is asked, and of its answer only the rest is taken.

The rest is click's own script (``click.shell_completion``); the same trimming is done by
``__ltrim_colon_completions`` of the bash-completion project. Bash 4.4 or later.
"""

from __future__ import annotations

from click.shell_completion import BashComplete, add_completion_class

_SCRIPT = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response completion type value word i
    local -a words=()

    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i > 1)) && [[ $word == [:=]* || ${words[-1]} == *[:=] ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    word=${words[-1]}
    [[ $word == --*=* ]] && word=${word#*=}

    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \\
%(complete_var)s=bash_complete $1)

    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"

        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
                value=${value#*:}
            fi
            COMPREPLY+=("$value")
        fi
    done

    return 0
}

%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}

%(complete_func)s_setup;
"""


@add_completion_class
class ColonBashComplete(BashComplete):
    """click's completion for bash, with a script that knows of colons."""

    source_template = _SCRIPT
