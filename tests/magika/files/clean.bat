@echo off
setlocal enabledelayedexpansion
rem Deletes build folders below the current one.
for /d /r . %%d in (build out) do (
    if exist "%%d" (
        echo Removing %%d
        rd /s /q "%%d"
    )
)
if %ERRORLEVEL% NEQ 0 goto failed
echo Done.
exit /b 0
:failed
echo Something went wrong.
pause
